package stage

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strconv"
	"strings"
	"time"

	"github.com/ami-factory/ami-factory/pkg/compliance"
	"github.com/ami-factory/ami-factory/pkg/contract"
	"github.com/ami-factory/ami-factory/pkg/failure"
	"github.com/ami-factory/ami-factory/pkg/plan"
	"github.com/ami-factory/ami-factory/pkg/store"
)

// enginesScript is the script that runs the engines beside goss, in the user data.
const enginesScript = "verify/engines.sh"

// streamsDir is the folder of data streams and their programs, in the user data.
const streamsDir = "streams"

// engineSlack is the part of the checks' time that is kept for downloads and uploads.
const engineSlack = time.Minute

// engines writes what engines.sh needs, and the script; nothing if goss alone checks
// the image.
func (s RunCompliance) engines(ctx context.Context, b *strings.Builder, in ComplianceInput, p plan.BuildPlan, ttl time.Duration) error {
	e := p.Engines
	names := e.Names()
	if len(names) == 0 {
		return nil
	}
	body, err := fs.ReadFile(s.Files, enginesScript)
	if err != nil {
		return failure.Wrap(failure.Internal, err, "read the script that runs the engines")
	}
	programs := len(names)
	if e.Script != nil {
		programs += len(e.Script.Files) - 1
	}
	each := (time.Duration(p.Recipe.Checks.Timeout) - engineSlack) / time.Duration(programs)
	set := [][2]string{{"CHECKS_SECONDS", strconv.Itoa(int(max(each, 20*time.Second).Seconds()))}}
	for _, name := range names {
		url, err := s.Store.PutOnceURL(ctx, engineKey(in.Execution, name), store.AnySize, ttl)
		if err != nil {
			return err
		}
		set = append(set, [2]string{strings.ToUpper(name) + "_RESULTS_PUT_URL", url})
	}
	if e.Script != nil {
		var controls []string
		for _, c := range e.Script.Declared {
			controls = append(controls, c.ID)
		}
		set = append(set, [2]string{"SCRIPT_COUNT", strconv.Itoa(len(e.Script.Files))}, [2]string{"SCRIPT_CONTROLS", strings.Join(controls, " ")})
		for i, f := range e.Script.Files {
			url, sum, err := s.give(ctx, f.Data, ttl)
			if err != nil {
				return err
			}
			set = append(set, [2]string{fmt.Sprintf("SCRIPT_URL_%d", i), url}, [2]string{fmt.Sprintf("SCRIPT_SHA256_%d", i), sum})
		}
	}
	if o := e.OpenSCAP; o != nil {
		set = append(set, [2]string{"OPENSCAP_PROFILE", o.Profile})
		for _, f := range []struct{ name, file, sum string }{{"STREAM", o.Stream, o.SHA256}, {"PROGRAM", o.Program, o.ProgramSHA256}} {
			if f.file == "" {
				continue
			}
			url, err := s.stream(ctx, f.file, f.sum, ttl)
			if err != nil {
				return err
			}
			set = append(set, [2]string{"OPENSCAP_" + f.name + "_URL", url}, [2]string{"OPENSCAP_" + f.name + "_SHA256", f.sum})
		}
	}
	if r := e.Bottlerocket; r != nil {
		set = append(set, [2]string{"BOTTLEROCKET_REPORT", r.Report}, [2]string{"BOTTLEROCKET_LEVEL", strconv.Itoa(r.Level)})
	}
	for _, v := range set {
		fmt.Fprintf(b, "export %s=%s\n", v[0], shellQuote(v[1]))
	}
	b.Write(body)
	return nil
}

// give keeps bytes for the verifier and returns their address and digest.
func (s RunCompliance) give(ctx context.Context, data []byte, ttl time.Duration) (url, sum string, err error) {
	o, err := s.Store.Put(ctx, contract.ChecksKey(store.Digest(data)), "application/octet-stream", data)
	if err != nil {
		return "", "", err
	}
	url, err = s.Store.GetURL(ctx, o.Key, ttl)
	return url, o.SHA256, err
}

// stream returns the address of a data stream or of its program: of the file in the
// user data, otherwise of the object in the bucket. The verifier checks the digest.
func (s RunCompliance) stream(ctx context.Context, file, sum string, ttl time.Duration) (string, error) {
	data, err := fs.ReadFile(s.Files, path.Join(streamsDir, file))
	if errors.Is(err, fs.ErrNotExist) {
		return s.Store.GetURL(ctx, contract.StreamsPrefix+file, ttl)
	}
	if err != nil {
		return "", failure.Wrap(failure.Internal, err, "read %s", path.Join(streamsDir, file))
	}
	if got := store.Digest(data); got != sum {
		return "", failure.New(failure.ComplianceFailed, "%s has SHA-256 %s, the recipe expects %s", path.Join(streamsDir, file), got, sum)
	}
	url, _, err := s.give(ctx, data, ttl)
	return url, err
}

// engineKey is where the verifier puts what an engine printed.
func engineKey(e Execution, engine string) string {
	if engine == compliance.EngineGoss {
		return rawResultsKey(e)
	}
	return executionKey(e, contract.EngineResultsObject(engine))
}
