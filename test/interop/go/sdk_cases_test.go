// Package interop runs the Go module of the SDK against the agent. INTEROP_VECTORS names the values that the public
// test identity must give.
package interop

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"os"
	"testing"

	"github.com/Dstack-TEE/dstack/sdk/go/dstack"
)

type vectors struct {
	GetKey []struct {
		Request  struct{ Path, Purpose, Algorithm string }
		Response struct {
			Key            string
			SignatureChain []string `json:"signature_chain"`
		}
	} `json:"get_key"`
	Sign []struct {
		Request  struct{ Algorithm, Data string }
		Response struct {
			Signature string
			PublicKey string `json:"public_key"`
		}
	}
	Info struct {
		AppID      string `json:"app_id"`
		InstanceID string `json:"instance_id"`
	}
}

func known(t *testing.T) vectors {
	t.Helper()
	text, err := os.ReadFile(os.Getenv("INTEROP_VECTORS"))
	if err != nil {
		t.Fatal(err)
	}
	var found vectors
	if err := json.Unmarshal(text, &found); err != nil {
		t.Fatal(err)
	}
	return found
}

func client() *dstack.DstackClient {
	return dstack.NewDstackClient(dstack.WithEndpoint(os.Getenv("DSTACK_SIMULATOR_ENDPOINT")))
}

func fromHex(t *testing.T, text string) []byte {
	t.Helper()
	data, err := hex.DecodeString(text)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func TestGetKeyKnownValues(t *testing.T) {
	for _, vector := range known(t).GetKey {
		request := vector.Request
		key, err := client().GetKey(context.Background(), request.Path, request.Purpose, request.Algorithm)
		if err != nil {
			t.Fatalf("%v: %v", request, err)
		}
		if key.Key != vector.Response.Key || key.SignatureChain[0] != vector.Response.SignatureChain[0] {
			t.Errorf("%v: %s", request, key.Key)
		}
	}
}

func TestGetKeyRefusesOtherAlgorithms(t *testing.T) {
	for _, algorithm := range []string{"rsa", "secp256k1_prehashed"} {
		if _, err := client().GetKey(context.Background(), "p", "x", algorithm); err == nil {
			t.Errorf("%s was accepted", algorithm)
		}
	}
}

func TestAttest(t *testing.T) {
	evidence, err := client().Attest(context.Background(), []byte("nonce"))
	if err != nil || len(evidence.Attestation) < 1000 {
		t.Fatalf("%v", err)
	}
	if _, err := client().Attest(context.Background(), make([]byte, 65)); err == nil {
		t.Error("65 bytes were accepted")
	}
}

func TestGetTlsKeyUsages(t *testing.T) {
	leafOf := func(options ...dstack.TlsKeyOption) *x509.Certificate {
		made, err := client().GetTlsKey(context.Background(), options...)
		if err != nil {
			t.Fatal(err)
		}
		block, _ := pem.Decode([]byte(made.CertificateChain[0]))
		leaf, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			t.Fatal(err)
		}
		return leaf
	}
	bare := leafOf()
	if len(bare.DNSNames) != 0 || len(bare.IPAddresses) != 0 || len(bare.ExtKeyUsage) != 0 {
		t.Errorf("no options: %v %v %v", bare.DNSNames, bare.IPAddresses, bare.ExtKeyUsage)
	}
	full := leafOf(
		dstack.WithSubject("example.com"),
		dstack.WithAltNames([]string{"localhost", "other"}),
		dstack.WithUsageClientAuth(true),
	)
	if full.Subject.CommonName != "example.com" || len(full.DNSNames) != 2 {
		t.Errorf("%s %v", full.Subject.CommonName, full.DNSNames)
	}
	if len(full.ExtKeyUsage) != 1 || full.ExtKeyUsage[0] != x509.ExtKeyUsageClientAuth {
		t.Errorf("usages %v", full.ExtKeyUsage)
	}
	if full.KeyUsage != x509.KeyUsageDigitalSignature {
		t.Errorf("key usage %v", full.KeyUsage)
	}
}

func TestInfo(t *testing.T) {
	info, err := client().Info(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	expected := known(t).Info
	if info.AppID != expected.AppID || info.InstanceID != expected.InstanceID {
		t.Errorf("%s %s", info.AppID, info.InstanceID)
	}
	tcb, err := info.DecodeTcbInfo()
	if err != nil || len(tcb.Rtmr3) != 96 || len(tcb.EventLog) == 0 {
		t.Errorf("%v", err)
	}
}

func TestSignAndVerifyKnownValues(t *testing.T) {
	for _, vector := range known(t).Sign {
		algorithm, data := vector.Request.Algorithm, fromHex(t, vector.Request.Data)
		signed, err := client().Sign(context.Background(), algorithm, data)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(signed.Signature, fromHex(t, vector.Response.Signature)) || len(signed.SignatureChain) != 3 {
			t.Errorf("%s: %x", algorithm, signed.Signature)
		}
		for _, expected := range []bool{true, false} {
			answer, err := client().Verify(context.Background(), algorithm, data, signed.Signature, signed.PublicKey)
			if err != nil || answer.Valid != expected {
				t.Errorf("%s: %v %v", algorithm, answer, err)
			}
			data[0] ^= 1
		}
	}
}

func TestVersionAndReachable(t *testing.T) {
	if version, err := client().GetVersion(context.Background()); err != nil || version.Version == "" {
		t.Errorf("%v", err)
	}
	if !client().IsReachable(context.Background()) {
		t.Error("not reachable")
	}
}
