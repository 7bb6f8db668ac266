// Package plannertest has the smallest user data that can be built, for tests.
package plannertest

import (
	"io/fs"
	"testing/fstest"

	"github.com/ami-factory/ami-factory/userdata"
)

// Recipe is a recipe, sample, of the user data.
const Recipe = `name: sample
description: a test
family: debian-12
architecture: x86_64
source: {parameter: /aws/service/base, owner: "136693071363"}
builder:
  instanceTypes: [t3.medium]
  rootVolume: {sizeGiB: 8}
components: [{name: motd}]
distribution: {regions: [{name: eu-west-1}, {name: eu-central-1}]}
pointers: {parameters: [/ami-factory/sample/latest]}
`

// Files has one recipe, in recipes/sample.yaml, one component, motd, and the
// project's scripts around components.
func Files(recipe string) fstest.MapFS {
	file := func(s string) *fstest.MapFile { return &fstest.MapFile{Data: []byte(s)} }
	tree := fstest.MapFS{
		"baseline.yaml":                  file("components: [motd]\ngate: {severity: medium}\ncontrols: []\nwaivers: {severity: critical}\n"),
		"recipes/sample.yaml":            file(recipe),
		"components/motd/component.yaml": file("name: motd\ndescription: a greeting\nfamilies: [debian-12]\norder: 10\n"),
		"components/motd/install.sh":     file("#!/bin/bash\nset -euo pipefail\necho hello > /etc/motd\n"),
		"components/motd/checks.yaml": file("controls:\n  - id: SYS-01\n    title: There is a greeting\n    severity: low\n" +
			"    goss:\n      file: {/etc/motd: {exists: true}}\n"),
	}
	for _, dir := range []string{"lib", "runner", "seal", "verify"} {
		err := fs.WalkDir(userdata.FS, dir, func(name string, entry fs.DirEntry, err error) error {
			if err != nil || entry.IsDir() {
				return err
			}
			data, err := fs.ReadFile(userdata.FS, name)
			tree[name] = &fstest.MapFile{Data: data}
			return err
		})
		if err != nil {
			panic(err) // it is embedded
		}
	}
	return tree
}
