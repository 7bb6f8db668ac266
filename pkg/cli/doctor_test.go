package cli

import (
	"testing"
)

func TestDoctorTry(t *testing.T) {
	deployedFactory(t)
	r := onAWS(t, "doctor")
	t.Log(r.code, "\n"+r.out, r.err)
}
