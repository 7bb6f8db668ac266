package userdata_test

import (
	"path/filepath"
	"testing"

	"github.com/ami-factory/ami-factory/pkg/component"
	"github.com/ami-factory/ami-factory/test/golden"
)

func TestEveryComponentHasItsPage(t *testing.T) {
	for _, c := range load(t) {
		golden.File(t, filepath.Join("components", c.Name, component.PageFile), c.Page())
	}
}
