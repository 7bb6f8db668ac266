// Package bundle is the signed evidence of a release: a manifest that says what the
// images are in every region and holds the digests of the plan, the results and the
// other records; statements about that manifest in the form of in-toto, each in a DSSE
// envelope; and a verification summary, signed last, that lists the digest of every
// envelope. It uses no network: who signs is given, and Verify needs the files of a
// bundle and a public key only.
//
// The specifications are DSSE (https://github.com/secure-systems-lab/dsse), in-toto's
// Statement v1 (https://github.com/in-toto/attestation/blob/main/spec/v1/statement.md),
// SLSA's provenance v1 and verification summary v1 (https://slsa.dev/spec/v1.0/), and
// the Sigstore bundle v0.3 (https://docs.sigstore.dev/about/bundle/).
package bundle
