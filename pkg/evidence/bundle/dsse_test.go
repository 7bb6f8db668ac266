package bundle_test

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"strings"
	"testing"

	"github.com/secure-systems-lab/go-securesystemslib/dsse"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ami-factory/ami-factory/pkg/evidence/bundle"
)

// oracle lets the reference implementation of DSSE use a key of this test.
type oracle struct{ signer }

func (o oracle) KeyID() (string, error) { return bundle.KeyID(&o.PublicKey), nil }

func (o oracle) Sign(ctx context.Context, data []byte) ([]byte, error) {
	return o.signer.Sign(ctx, sha(data))
}

func TestEnvelopesAreThoseOfTheReferenceImplementation(t *testing.T) {
	for sentence, payload := range map[string]string{"a statement": `{"_type":"x"}`, "no payload": "", "letters of more than a byte": "größer", "lines": "a\nb\r\n"} {
		t.Run(sentence, func(t *testing.T) {
			assert.Equal(t, dsse.PAE(bundle.PayloadType, []byte(payload)), bundle.PAE(bundle.PayloadType, []byte(payload)))
		})
	}
	by := newSigner(t)
	t.Run("it verifies ours", func(t *testing.T) {
		s, err := bundle.About(strings.Repeat("a", 64), bundle.ProvenanceType, map[string]string{})
		require.NoError(t, err)
		ours, err := bundle.Sign(t.Context(), by, &by.PublicKey, s)
		require.NoError(t, err)
		var theirs dsse.Envelope
		require.NoError(t, json.Unmarshal(ours.Encode(), &theirs))
		v, err := dsse.NewEnvelopeVerifier(verifierOf(by))
		require.NoError(t, err)
		_, err = v.Verify(t.Context(), &theirs)
		require.NoError(t, err)
	})
	t.Run("we verify its", func(t *testing.T) {
		s, err := dsse.NewEnvelopeSigner(oracle{by})
		require.NoError(t, err)
		theirs, err := s.SignPayload(t.Context(), bundle.PayloadType, []byte("{}"))
		require.NoError(t, err)
		raw, err := json.Marshal(theirs)
		require.NoError(t, err)
		ours, err := bundle.Parse(raw)
		require.NoError(t, err)
		require.NoError(t, ours.Verify(&by.PublicKey))
		assert.Equal(t, "{}", string(ours.Payload))
	})
}

func TestBothAlphabetsOfBase64AreRead(t *testing.T) {
	payload := []byte{0xfb, 0xff, 0xfe, 'x'} // has + and / in the standard alphabet
	for sentence, encoding := range map[string]*base64.Encoding{
		"standard": base64.StdEncoding, "URL-safe": base64.URLEncoding, "standard without padding": base64.RawStdEncoding, "URL-safe without padding": base64.RawURLEncoding,
	} {
		t.Run(sentence, func(t *testing.T) {
			text := encoding.EncodeToString(payload)
			e, err := bundle.Parse([]byte(`{"payloadType":"t","payload":"` + text + `","signatures":[{"keyid":"","sig":"` + text + `"}]}`))
			require.NoError(t, err)
			assert.Equal(t, payload, e.Payload)
			assert.Equal(t, payload, e.Signatures[0].Sig)
		})
	}
}

func TestWhatIsNoEnvelopeIsRefused(t *testing.T) {
	for sentence, tc := range map[string]struct{ text, want string }{
		"nothing":                     {"", "no DSSE envelope"},
		"another document":            {`{"a":1}`, "unknown field"},
		"text behind the envelope":    {`{"payload":""} {}`, "text after the JSON document"},
		"a payload that is no base64": {`{"payload":"%"}`, "its payload is no base64"},
		"a signature that is none":    {`{"payload":"","signatures":[{"sig":"%"}]}`, "its signature is no base64"},
	} {
		t.Run(sentence, func(t *testing.T) {
			_, err := bundle.Parse([]byte(tc.text))
			assert.ErrorContains(t, err, tc.want)
		})
	}
	by := newSigner(t)
	e, err := bundle.Parse([]byte(`{"payload":"","signatures":[]}`))
	require.NoError(t, err)
	assert.ErrorContains(t, e.Verify(&by.PublicKey), "it has 0 signatures, not 1")
}

func TestASignatureOfAnotherKeyIsNoticedWhenItIsMade(t *testing.T) {
	by, other := newSigner(t), newSigner(t)
	s, err := bundle.About(strings.Repeat("a", 64), bundle.ProvenanceType, nil)
	require.NoError(t, err)
	_, err = bundle.Sign(t.Context(), by, &other.PublicKey, s)
	assert.ErrorContains(t, err, "is not by the key "+bundle.KeyID(&other.PublicKey))
}

// The names are those of protobuf-specs: Bundle, VerificationMaterial,
// PublicKeyIdentifier and io.intoto.Envelope, in lowerCamelCase
// (https://github.com/sigstore/protobuf-specs/tree/main/protos).
func TestASigstoreBundleHasTheFieldsOfItsSpecification(t *testing.T) {
	by := newSigner(t)
	s, err := bundle.About(strings.Repeat("a", 64), bundle.SummaryType, map[string]string{})
	require.NoError(t, err)
	e, err := bundle.Sign(t.Context(), by, &by.PublicKey, s)
	require.NoError(t, err)
	var got map[string]any
	require.NoError(t, json.Unmarshal(e.Sigstore(), &got))
	assert.Equal(t, map[string]any{
		"mediaType":            "application/vnd.dev.sigstore.bundle.v0.3+json",
		"verificationMaterial": map[string]any{"publicKey": map[string]any{"hint": bundle.KeyID(&by.PublicKey)}},
		"dsseEnvelope": map[string]any{
			"payloadType": "application/vnd.in-toto+json",
			"payload":     base64.StdEncoding.EncodeToString(e.Payload),
			"signatures":  []any{map[string]any{"keyid": bundle.KeyID(&by.PublicKey), "sig": base64.StdEncoding.EncodeToString(e.Signatures[0].Sig)}},
		},
	}, got)
}
