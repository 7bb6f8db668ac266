package ec2

import (
	"context"
	"crypto"
	"crypto/ed25519"
	"crypto/md5" // #nosec G501 -- EC2's fingerprint of an imported RSA key is an MD5
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1" // #nosec G505 -- EC2's fingerprint of an RSA key that it made is a SHA-1
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"golang.org/x/crypto/ssh"

	"github.com/ami-factory/ami-factory/pkg/localcloud/internal/scope"
	"github.com/ami-factory/ami-factory/pkg/localcloud/wire"
)

// keyPair is the public half of a key pair; EC2 does not keep the private one.
type keyPair struct {
	ID, Name, Fingerprint string
	Type                  types.KeyType
	PublicKey             string // a line of authorized_keys, without a comment
	Created               time.Time
	Tags                  []types.Tag
}

func (k keyPair) info(withKey bool) types.KeyPairInfo {
	out := types.KeyPairInfo{
		KeyPairId: aws.String(k.ID), KeyName: aws.String(k.Name), KeyFingerprint: aws.String(k.Fingerprint), KeyType: k.Type,
		CreateTime: aws.Time(k.Created), Tags: slices.Clone(k.Tags),
	}
	if withKey {
		out.PublicKey = aws.String(k.PublicKey + " " + k.Name + "\n")
	}
	return out
}

// rsaBits is the size of the RSA keys that EC2 makes.
const rsaBits = 2048

// CreateKeyPair makes a key pair and returns its private key, once
// (https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_CreateKeyPair.html).
func (s *Service) CreateKeyPair(ctx context.Context, in *ec2.CreateKeyPairInput, optFns ...func(*ec2.Options)) (*ec2.CreateKeyPairOutput, error) {
	if in.KeyFormat != "" && in.KeyFormat != types.KeyFormatPem {
		return nil, wire.Errorf("InvalidParameterValue", "Value (%s) for parameter keyFormat is invalid. The embedded EC2 makes keys in the format pem.", in.KeyFormat)
	}
	k := keyPair{Name: aws.ToString(in.KeyName), Type: in.KeyType}
	var private []byte
	var err error
	switch in.KeyType {
	case "", types.KeyTypeRsa:
		k.Type = types.KeyTypeRsa
		private, k.PublicKey, k.Fingerprint, err = makeRSA()
	case types.KeyTypeEd25519:
		private, k.PublicKey, k.Fingerprint, err = makeEd25519(k.Name)
	default:
		return nil, wire.Errorf("InvalidParameterValue", "Value (%s) for parameter keyType is invalid. Allowed: rsa, ed25519", in.KeyType)
	}
	if err != nil {
		return nil, fmt.Errorf("make a key pair: %w", err)
	}
	if k, err = s.addKeyPair(s.caller(ctx, optFns), k, in.TagSpecifications, in.DryRun); err != nil {
		return nil, err
	}
	return &ec2.CreateKeyPairOutput{
		KeyPairId: aws.String(k.ID), KeyName: aws.String(k.Name), KeyFingerprint: aws.String(k.Fingerprint), KeyMaterial: aws.String(string(private)), Tags: k.Tags,
	}, nil
}

func makeRSA() (private []byte, public, fingerprint string, err error) {
	key, err := rsa.GenerateKey(rand.Reader, rsaBits)
	if err != nil {
		return nil, "", "", err
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, "", "", err
	}
	if public, err = publicLine(&key.PublicKey); err != nil {
		return nil, "", "", err
	}
	sum := sha1.Sum(der) // #nosec G401 -- see the import
	private = pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(key)})
	return private, public, colons(sum[:]), nil
}

func makeEd25519(comment string) (private []byte, public, fingerprint string, err error) {
	own, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, "", "", err
	}
	block, err := ssh.MarshalPrivateKey(key, comment)
	if err != nil {
		return nil, "", "", err
	}
	if public, err = publicLine(own); err != nil {
		return nil, "", "", err
	}
	fingerprint, err = sha256Fingerprint(own)
	return pem.EncodeToMemory(block), public, fingerprint, err
}

func publicLine(key crypto.PublicKey) (string, error) {
	public, err := ssh.NewPublicKey(key)
	if err != nil {
		return "", err
	}
	return strings.TrimSpace(string(ssh.MarshalAuthorizedKey(public))), nil
}

func sha256Fingerprint(key crypto.PublicKey) (string, error) {
	public, err := ssh.NewPublicKey(key)
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256(public.Marshal())
	return base64.StdEncoding.EncodeToString(sum[:]), nil
}

func colons(sum []byte) string {
	parts := make([]string, len(sum))
	for i := range sum {
		parts[i] = hex.EncodeToString(sum[i : i+1])
	}
	return strings.Join(parts, ":")
}

// ImportKeyPair stores a public key of the caller: RSA or ED25519.
func (s *Service) ImportKeyPair(ctx context.Context, in *ec2.ImportKeyPairInput, optFns ...func(*ec2.Options)) (*ec2.ImportKeyPairOutput, error) {
	k := keyPair{Name: aws.ToString(in.KeyName)}
	refused := wire.Errorf("InvalidKey.Format", "Key is not in valid OpenSSH public key format")
	public, _, _, _, err := ssh.ParseAuthorizedKey(in.PublicKeyMaterial)
	if err != nil {
		return nil, refused
	}
	inner, ok := public.(ssh.CryptoPublicKey)
	if !ok {
		return nil, refused
	}
	switch key := inner.CryptoPublicKey().(type) {
	case *rsa.PublicKey:
		der, err := x509.MarshalPKIXPublicKey(key)
		if err != nil {
			return nil, refused
		}
		sum := md5.Sum(der) // #nosec G401 -- see the import
		k.Type, k.Fingerprint = types.KeyTypeRsa, colons(sum[:])
	case ed25519.PublicKey:
		k.Type = types.KeyTypeEd25519
		if k.Fingerprint, err = sha256Fingerprint(key); err != nil {
			return nil, refused
		}
	default:
		return nil, refused
	}
	k.PublicKey = strings.TrimSpace(string(ssh.MarshalAuthorizedKey(public)))
	if k, err = s.addKeyPair(s.caller(ctx, optFns), k, in.TagSpecifications, in.DryRun); err != nil {
		return nil, err
	}
	return &ec2.ImportKeyPairOutput{KeyPairId: aws.String(k.ID), KeyName: aws.String(k.Name), KeyFingerprint: aws.String(k.Fingerprint), Tags: k.Tags}, nil
}

func (s *Service) addKeyPair(c wire.Caller, k keyPair, specified []types.TagSpecification, dry *bool) (keyPair, error) {
	if k.Name == "" || len(k.Name) > 255 {
		return k, wire.Errorf("InvalidParameterValue", "Value (%s) for parameter KeyName is invalid. It has 1 to 255 characters.", k.Name)
	}
	if err := asciiOnly("KeyName", &k.Name); err != nil {
		return k, err
	}
	tags, err := tagsFor(types.ResourceTypeKeyPair, specified)
	if err != nil {
		return k, err
	}
	s.mu.Lock()
	defer s.unlock()
	at := scope.KeyOf(c)
	if _, taken := s.st.KeyPairs[at][k.Name]; taken {
		return k, wire.Errorf("InvalidKeyPair.Duplicate", "The keypair already exists")
	}
	if err := dryRun(dry); err != nil {
		return k, err
	}
	k.ID, k.Tags, k.Created = "key-"+scope.Hex(17), tags, s.cfg.Clock.Now().Truncate(time.Millisecond)
	if s.st.KeyPairs[at] == nil {
		s.st.KeyPairs[at] = map[string]keyPair{}
	}
	s.st.KeyPairs[at][k.Name] = k
	return k, nil
}

// DeleteKeyPair deletes a key pair. It succeeds if the key pair does not exist,
// as on EC2.
func (s *Service) DeleteKeyPair(ctx context.Context, in *ec2.DeleteKeyPairInput, optFns ...func(*ec2.Options)) (*ec2.DeleteKeyPairOutput, error) {
	if in.KeyName == nil && in.KeyPairId == nil {
		return nil, wire.Errorf("MissingParameter", "The request must contain the parameter KeyName or KeyPairId")
	}
	if err := dryRun(in.DryRun); err != nil {
		return nil, err
	}
	at := scope.KeyOf(s.caller(ctx, optFns))
	s.mu.Lock()
	defer s.unlock()
	out := &ec2.DeleteKeyPairOutput{Return: aws.Bool(true)}
	for name, k := range s.st.KeyPairs[at] {
		if in.KeyName != nil && name == *in.KeyName || in.KeyPairId != nil && k.ID == *in.KeyPairId {
			out.KeyPairId = aws.String(k.ID)
			delete(s.st.KeyPairs[at], name)
		}
	}
	return out, nil
}

// DescribeKeyPairs shows the caller's key pairs by name.
func (s *Service) DescribeKeyPairs(ctx context.Context, in *ec2.DescribeKeyPairsInput, optFns ...func(*ec2.Options)) (*ec2.DescribeKeyPairsOutput, error) {
	at := scope.KeyOf(s.caller(ctx, optFns))
	s.mu.Lock()
	defer s.unlock()
	all := []types.KeyPairInfo{}
	for _, name := range slices.Sorted(maps.Keys(s.st.KeyPairs[at])) {
		all = append(all, s.st.KeyPairs[at][name].info(aws.ToBool(in.IncludePublicKey)))
	}
	all, err := named(all, in.KeyNames, func(k types.KeyPairInfo) *string { return k.KeyName }, "InvalidKeyPair.NotFound", "The key pair '%s' does not exist")
	if err != nil {
		return nil, err
	}
	all, err = named(all, in.KeyPairIds, func(k types.KeyPairInfo) *string { return k.KeyPairId }, "InvalidKeyPair.NotFound", "The key pair '%s' does not exist")
	if err != nil {
		return nil, err
	}
	all, err = filterTable[types.KeyPairInfo]{
		"key-name":    func(k types.KeyPairInfo) []string { return one(k.KeyName) },
		"key-pair-id": func(k types.KeyPairInfo) []string { return one(k.KeyPairId) },
		"fingerprint": func(k types.KeyPairInfo) []string { return one(k.KeyFingerprint) },
	}.apply(all, in.Filters, func(k types.KeyPairInfo) []types.Tag { return k.Tags })
	if err != nil {
		return nil, err
	}
	return &ec2.DescribeKeyPairsOutput{KeyPairs: all}, nil
}

// checkKey resolves the key pair of a launch, and whether the instance gets a
// public address: if the caller requests one or names a key pair.
func (s *Service) checkKey(c wire.Caller, l *launch, in *ec2.RunInstancesInput) error {
	if len(in.NetworkInterfaces) == 1 {
		l.public = in.NetworkInterfaces[0].AssociatePublicIpAddress
	}
	if in.KeyName == nil {
		return nil
	}
	k, ok := s.st.KeyPairs[scope.KeyOf(c)][*in.KeyName]
	if !ok {
		return wire.Errorf("InvalidKeyPair.NotFound", "The key pair '%s' does not exist", *in.KeyName)
	}
	l.key = &k
	if l.public == nil {
		l.public = aws.Bool(true)
	}
	return nil
}
