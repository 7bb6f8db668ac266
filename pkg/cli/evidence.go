package cli

import (
	"cmp"
	"context"
	"crypto/ecdsa"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/spf13/cobra"

	"github.com/ami-factory/ami-factory/pkg/contract"
	"github.com/ami-factory/ami-factory/pkg/evidence/bundle"
)

// publicKeyAPI reads the public half of the key that signs evidence.
type publicKeyAPI interface {
	GetPublicKey(context.Context, *kms.GetPublicKeyInput, ...func(*kms.Options)) (*kms.GetPublicKeyOutput, error)
}

func (a *app) evidence() *cobra.Command {
	return group(&cobra.Command{
		Use:   "evidence",
		Short: "Verify and show the signed evidence of an image, and print the key to do so",
		Long: `Each release is signed: what the images are in every region, what they were made from, what
the checks said, who approved it. "bake" and the factory's bucket have the evidence as
evidence.tar.gz. It is verified with nothing but that file and the public key of the
factory, here or by OpenSSL.`,
		Example: `  ami-factory evidence key > key.pem
  ami-factory evidence verify evidence.tar.gz --key key.pem
  ami-factory evidence show ami-0123456789abcdef0`,
	}, a.evidenceVerify(), a.evidenceShow(), a.evidenceKey())
}

// keyFlag is the file of the trusted key.
type keyFlag struct{ file string }

func (k *keyFlag) register(c *cobra.Command) {
	c.Flags().StringVar(&k.file, "key", "", "`file` with the public key that is trusted, as PEM (default: that of the factory which is read)")
	_ = c.MarkFlagFilename("key", "pem") // the flag exists
}

// read reads the key; nil if none is named.
func (k keyFlag) read() (*ecdsa.PublicKey, error) {
	if k.file == "" {
		return nil, nil
	}
	text, err := os.ReadFile(k.file)
	if err != nil {
		return nil, usage("--key: %w", err)
	}
	key, err := bundle.ParseKey(text)
	if err != nil {
		return nil, usage("--key %s: %w", k.file, err)
	}
	return key, nil
}

func (a *app) evidenceVerify() *cobra.Command {
	var from evidencePlace
	var key keyFlag
	c := &cobra.Command{
		Use:   "verify IMAGE|EXECUTION|latest|FILE",
		Short: "Verify the evidence of an image: signatures, digests, completeness",
		Long: `Verify signed evidence: each signature, each digest, that the summary lists every
attestation and says PASSED, that all of them are about this manifest, and that there is
nothing beside them.

A FILE is evidence.tar.gz, or a folder with what was in it; it needs --key and no network.
For an IMAGE, an EXECUTION or the latest one, the evidence is read from a deployed factory
or a state folder, chosen as for "report", and so is the key unless --key is given. Of an
IMAGE, the evidence must name it.

Trust no key that came with the evidence: "evidence key" prints the factory's.

Exit codes: 0 verified, 1 not verified, or there is no evidence, 2 wrong usage.`,
		Example: `  ami-factory evidence verify evidence.tar.gz --key key.pem
  ami-factory evidence verify ami-0123456789abcdef0
  ami-factory evidence verify latest --guests container --output json`,
		Args: takes("one IMAGE, EXECUTION, " + latest + " or FILE"),
		RunE: func(c *cobra.Command, given []string) error {
			return a.withBundle(c, from, key, given[0], func(b loaded) error {
				return a.verifyEvidence(b)
			})
		},
	}
	from.register(c)
	key.register(c)
	return c
}

func (a *app) evidenceShow() *cobra.Command {
	var from evidencePlace
	var key keyFlag
	c := &cobra.Command{
		Use:   "show IMAGE|EXECUTION|latest|FILE",
		Short: "Verify the evidence of an image, and show what it says",
		Long: `Verify signed evidence as "evidence verify" does, and show what it says: the manifest and
the volumes of each image. --output json has each statement too. What is not verified is not shown.`,
		Example: `  ami-factory evidence show ami-0123456789abcdef0
  ami-factory evidence show evidence.tar.gz --key key.pem --output json`,
		Args: takes("one IMAGE, EXECUTION, " + latest + " or FILE"),
		RunE: func(c *cobra.Command, given []string) error {
			return a.withBundle(c, from, key, given[0], func(b loaded) error {
				return a.showEvidence(b)
			})
		},
	}
	from.register(c)
	key.register(c)
	return c
}

func (a *app) evidenceKey() *cobra.Command {
	var from evidencePlace
	c := &cobra.Command{
		Use:   "key",
		Short: "Print the public key that verifies evidence",
		Long: `Print the public half of the key that signs the evidence of a factory, as PEM. The factory is
a deployed one or a state folder, chosen as for "report". Keep the key where you verify:
it stays the same for as long as the key in KMS does.`,
		Example: `  ami-factory evidence key > key.pem
  ami-factory evidence key --bucket amifactory-bucket-1example > key.pem`,
		Args: takes(),
		RunE: func(c *cobra.Command, _ []string) error {
			return a.withEvidence(c, from, func(ctx context.Context, of evidenceOf) error {
				key, arn, err := of.key(ctx)
				if err != nil {
					return err
				}
				if a.format == "json" {
					return a.json(map[string]string{"arn": arn, "sha256": bundle.KeyID(key), "pem": string(bundle.PEM(key))})
				}
				_, err = a.out.Write(bundle.PEM(key))
				return err
			})
		},
	}
	from.register(c)
	return c
}

// key reads the factory's key.
func (e evidenceOf) key(ctx context.Context) (*ecdsa.PublicKey, string, error) {
	out, err := e.kms.GetPublicKey(ctx, &kms.GetPublicKeyInput{KeyId: aws.String(contract.SigningKeyAlias)})
	if err != nil {
		return nil, "", fmt.Errorf("read the key %s, which signs evidence (or give --key): %w", contract.SigningKeyAlias, err)
	}
	key, err := bundle.KeyOfDER(out.PublicKey)
	return key, aws.ToString(out.KeyId), err
}

// loaded is evidence that is to be verified.
type loaded struct {
	where string
	image string // that it must name; empty: any
	files bundle.Files
	key   *ecdsa.PublicKey
}

// withBundle reads the evidence of an argument and the key that is trusted.
func (a *app) withBundle(c *cobra.Command, from evidencePlace, trusted keyFlag, which string, do func(loaded) error) error {
	return a.withBundles(c, from, trusted, []string{which}, func(all []loaded) error { return do(all[0]) })
}

// withBundles reads the evidence of each argument and the key that is trusted.
func (a *app) withBundles(c *cobra.Command, from evidencePlace, trusted keyFlag, which []string, do func([]loaded) error) error {
	key, err := trusted.read()
	if err != nil {
		return err
	}
	all := make([]loaded, len(which))
	var stored []int // of those that are no file
	for i, name := range which {
		info, err := os.Stat(name)
		switch {
		case err == nil && key == nil:
			return usage("%s is a file: give --key, the public key that you trust (`ami-factory evidence key > key.pem` prints the factory's)", name)
		case err == nil:
			files, err := readBundle(name, info)
			if err != nil {
				return fmt.Errorf("not verified: %s: %w", name, err)
			}
			all[i] = loaded{where: name, files: files, key: key}
			continue
		case strings.ContainsAny(name, "/."):
			return usage("there is no file %s", name)
		}
		if err := checkWhich(name); err != nil {
			return err
		}
		stored = append(stored, i)
	}
	if len(stored) == 0 {
		return do(all)
	}
	return a.withEvidence(c, from, func(ctx context.Context, of evidenceOf) error {
		for _, i := range stored {
			if all[i], err = of.bundle(ctx, which[i], from.region, key); err != nil {
				return err
			}
		}
		return do(all)
	})
}

// bundle reads the evidence of an image or an execution; and the key of the factory, if
// no other one is trusted.
func (e evidenceOf) bundle(ctx context.Context, which, region string, trusted *ecdsa.PublicKey) (loaded, error) {
	name, err := e.released(ctx, which, region)
	if err != nil {
		return loaded{}, err
	}
	packed, err := e.read(ctx, name, contract.EvidenceObject)
	if err != nil {
		return loaded{}, fmt.Errorf("evidence of %s: %w", name, err)
	}
	l := loaded{where: "s3://" + e.store.Bucket + "/" + contract.ExecutionKey(name, contract.EvidenceObject), key: trusted}
	if l.key == nil {
		if l.key, _, err = e.key(ctx); err != nil {
			return loaded{}, err
		}
	}
	if strings.HasPrefix(which, "ami-") {
		l.image = which
	}
	if l.files, err = bundle.Unpack(packed); err != nil {
		return loaded{}, fmt.Errorf("not verified: %s: %w", l.where, err)
	}
	return l, nil
}

// readBundle reads a packed bundle or a folder.
func readBundle(name string, info fs.FileInfo) (bundle.Files, error) {
	if info.IsDir() {
		return bundle.ReadFS(os.DirFS(name))
	}
	if info.Size() > bundle.MaxBundle {
		return nil, fmt.Errorf("it is larger than %d bytes", bundle.MaxBundle)
	}
	packed, err := os.ReadFile(name)
	if err != nil {
		return nil, err
	}
	return bundle.Unpack(packed)
}

// verify verifies the evidence, and that it names the image that was asked for.
func (l loaded) verify() (bundle.Verified, error) {
	v, err := bundle.Verify(l.files, l.key)
	if err != nil || l.image == "" {
		return v, err
	}
	for _, i := range v.Manifest.Images {
		if i.ImageID == l.image {
			return v, nil
		}
	}
	return v, bundle.Refused{{File: contract.ManifestObject, Reason: "it is genuine and does not name " + l.image}}
}

// verdict is the data of "evidence verify".
type verdict struct {
	Verified       bool             `json:"verified"`
	Evidence       string           `json:"evidence"` // where it was read
	Key            string           `json:"key"`      // SHA-256 of the trusted key
	ManifestSHA256 string           `json:"manifestSha256,omitempty"`
	Manifest       *bundle.Manifest `json:"manifest,omitempty"`
	VerifiedAt     *time.Time       `json:"timeVerified,omitempty"` // by the factory
	Levels         []string         `json:"verifiedLevels,omitempty"`
	Attestations   []attested       `json:"attestations,omitempty"`
	Refused        []refusal        `json:"refused,omitempty"`
}

type attested struct {
	File          string `json:"file"`
	SHA256        string `json:"sha256"`
	PredicateType string `json:"predicateType"`
	Predicate     any    `json:"predicate,omitempty"` // of "evidence show"
}

type refusal struct {
	File   string `json:"file"`
	Reason string `json:"reason"`
}

func verdictOf(l loaded, v bundle.Verified) verdict {
	out := verdict{
		Verified: true, Evidence: l.where, Key: bundle.KeyID(l.key), ManifestSHA256: v.ManifestSHA256, Manifest: &v.Manifest,
		VerifiedAt: &v.Summary.TimeVerified, Levels: v.Summary.VerifiedLevels,
	}
	for _, s := range v.Attestations {
		out.Attestations = append(out.Attestations, attested{File: s.File, SHA256: s.SHA256, PredicateType: s.PredicateType})
	}
	return out
}

// notVerified reports evidence that was refused.
func (a *app) notVerified(l loaded, err error) error {
	var refused bundle.Refused
	if !errors.As(err, &refused) {
		return err
	}
	if a.format == "json" {
		out := verdict{Evidence: l.where, Key: bundle.KeyID(l.key)}
		for _, r := range refused {
			out.Refused = append(out.Refused, refusal(r))
		}
		if err := a.json(out); err != nil {
			return err
		}
	}
	return fmt.Errorf("not verified: %s\n%w", l.where, err)
}

func (a *app) verifyEvidence(l loaded) error {
	v, err := l.verify()
	if err != nil {
		return a.notVerified(l, err)
	}
	if a.format == "json" {
		return a.json(verdictOf(l, v))
	}
	return writeVerdict(a.out, l, v)
}

func (a *app) showEvidence(l loaded) error {
	v, err := l.verify()
	if err != nil {
		return a.notVerified(l, err)
	}
	if a.format == "json" {
		out := verdictOf(l, v)
		for i, s := range v.Attestations {
			out.Attestations[i].Predicate = s.Predicate
		}
		return a.json(out)
	}
	if err := writeVerdict(a.out, l, v); err != nil {
		return err
	}
	m := v.Manifest
	var b strings.Builder
	row := rows(&b)
	row("fingerprint", "%s", m.Fingerprint)
	row("release", "%s", m.ReleaseID)
	row("plan", "%s", m.PlanSHA256)
	row("factory", "%s", m.FactoryVersion)
	row("execution", "%s, started %s", m.Execution.ID, m.Execution.Started.Format(time.RFC3339))
	for _, i := range m.Images {
		for n, volume := range i.Volumes {
			row(first(n, i.Region), "%s %s, %d GiB, key %s", volume.Device, volume.SnapshotID, volume.SizeGiB, cmp.Or(volume.KMSKeyID, "none"))
		}
	}
	for i, f := range m.Files {
		row(first(i, "records"), "%s  %s, %d bytes", f.SHA256, f.Name, f.Size)
	}
	_, err = io.WriteString(a.out, b.String())
	return err
}

func writeVerdict(w io.Writer, l loaded, v bundle.Verified) error {
	m := v.Manifest
	var b strings.Builder
	row := rows(&b)
	if m.Guests.Kind == "simulated" {
		b.WriteString(simulatedNotice)
	}
	row("verified", "%s", l.where)
	row("key", "%s (%s)", bundle.KeyID(l.key), m.Key.ID)
	row("manifest", "%s, made %s", v.ManifestSHA256, m.Made.Format(time.RFC3339))
	row("recipe", "%s", m.Recipe)
	row("source", "%s %s of %s", m.Source.ImageID, m.Source.Name, m.Source.OwnerID)
	for i, image := range m.Images {
		row(first(i, "images"), "%s %s of %s", image.Region, image.ImageID, m.Owner)
	}
	row("verdict", "%s, %s", v.Summary.VerificationResult, strings.Join(v.Summary.VerifiedLevels, ", "))
	if v.Approvals != nil {
		for i, one := range v.Approvals.Approvals {
			row(first(i, "approved by"), "%s at %s: %s", one.Person, one.At.Format(time.RFC3339), one.Reason)
		}
	}
	for i, s := range v.Attestations {
		row(first(i, "attestations"), "%s  %s", s.File, s.PredicateType)
	}
	_, err := io.WriteString(w, b.String())
	return err
}
