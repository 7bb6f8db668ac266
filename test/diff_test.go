package test

import (
	"context"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ami-factory/ami-factory/pkg/contract"
	"github.com/ami-factory/ami-factory/pkg/evidence/diff"
	"github.com/ami-factory/ami-factory/pkg/rehearsal"
)

// diffOf is the diff that an execution has signed.
func (e *editable) diffOf(s rehearsal.Summary) diff.Diff {
	e.t.Helper()
	require.Equal(e.t, contract.Published, s.Status, s.Cause)
	raw := e.object(contract.ExecutionKey(s.Execution, contract.DiffObject))
	d, err := diff.Decode([]byte(raw))
	require.NoError(e.t, err)
	require.Equal(e.t, s.Execution, d.After.Execution)
	require.Contains(e.t, e.object(contract.ExecutionKey(s.Execution, contract.ManifestObject)), `"name": "diff.json"`)
	report := e.object(contract.ExecutionKey(s.Execution, contract.ReportObject))
	page := e.object(contract.ExecutionKey(s.Execution, contract.PageObject))
	if d.Before == nil {
		require.Contains(e.t, report, `"reason": "`+d.NotCompared[:30])
		require.Contains(e.t, page, "Nothing is compared with this image: ")
	} else {
		require.Contains(e.t, report, d.Before.ImageID)
		require.Contains(e.t, page, d.Before.Execution)
	}
	return d
}

// said reports whether the summary of a diff has a text.
func said(d diff.Diff, line string) bool {
	return strings.Contains(strings.Join(d.Lines(99), "\n"), line)
}

func TestEachReleaseIsComparedWithTheOneBefore(t *testing.T) {
	t.Parallel()
	e := newEditable(t, nil)
	first := bake(t, e.Factory, contract.ExecutionInput{})
	d := e.diffOf(first)
	assert.Nil(t, d.Before)
	assert.Equal(t, diff.NoPrevious, d.NotCompared)
	assert.False(t, d.OnlyPackageUpgrades())

	again := bake(t, e.Factory, contract.ExecutionInput{Force: true})
	d = e.diffOf(again)
	require.NotNil(t, d.Before, d.NotCompared)
	assert.Equal(t, first.Images[home], d.Before.ImageID)
	assert.True(t, d.Empty(), "the same recipe gives the same image: %v", d.Lines(99))
	assert.True(t, d.OnlyPackageUpgrades())

	e.edit("variant: docker", "variant: docker\n      aide: true")
	changed := bake(t, e.Factory, contract.ExecutionInput{})
	d = e.diffOf(changed)
	require.NotNil(t, d.Before, d.NotCompared)
	assert.Equal(t, again.Images[home], d.Before.ImageID)
	assert.False(t, d.OnlyPackageUpgrades())
	assert.True(t, said(d, "Components: 1 changed (hardening aide changed: "), d.Lines(99))

	e.edit(`accounts: ["210987654321"]`, `accounts: ["210987654321", "`+partner+`"]`)
	released := bake(t, e.Factory, contract.ExecutionInput{})
	require.NotNil(t, released.Again, "nothing is baked")
	d = e.diffOf(released)
	require.NotNil(t, d.Before, d.NotCompared)
	assert.Equal(t, changed.Execution, d.Before.Execution)
	assert.True(t, said(d, "Sharing: 1 added (account "+partner+" added)."), d.Lines(99))

	e.edit("keep: 3", "keep: 4")
	last := bake(t, e.Factory, contract.ExecutionInput{})
	d = e.diffOf(last)
	require.NotNil(t, d.Before, d.NotCompared)
	assert.Equal(t, released.Execution, d.Before.Execution, "the release before, not the execution that made the image")
	assert.Equal(t, []diff.Section{{Kind: diff.Recipe, Changes: []diff.Change{{What: diff.Changed, Name: "retention.keep", Before: "3", After: "4"}}}}, d.Sections)
}

func TestAReleaseWhoseEvidenceWasTamperedWithIsNotComparedWith(t *testing.T) {
	t.Parallel()
	e := newEditable(t, nil)
	first := bake(t, e.Factory, contract.ExecutionInput{})
	key := contract.ExecutionKey(first.Execution, contract.EvidenceObject)
	raw := []byte(e.object(key))
	raw[len(raw)/2] ^= 1
	_, err := e.Cloud.S3.PutObject(context.Background(), &s3.PutObjectInput{Bucket: &e.Bucket, Key: &key, Body: strings.NewReader(string(raw))})
	require.NoError(t, err)

	d := e.diffOf(bake(t, e.Factory, contract.ExecutionInput{Force: true}))
	assert.Nil(t, d.Before)
	assert.Contains(t, d.NotCompared, "the evidence of "+first.Images[home]+", which was published before, is not verified: ")
	assert.Contains(t, d.NotCompared, key)
	assert.Empty(t, d.Sections)
	assert.False(t, d.OnlyPackageUpgrades())
}
