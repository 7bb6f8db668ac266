package ecr

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ecr"
	"github.com/aws/aws-sdk-go-v2/service/ecr/types"

	"github.com/ami-factory/ami-factory/pkg/localcloud/internal/scope"
)

// scanEvery is how long an image must wait for its next scan
// (https://docs.aws.amazon.com/AmazonECR/latest/userguide/image-scanning-basic.html).
const scanEvery = 24 * time.Hour

// unsupported is ECR's description of the status of an image that it cannot scan.
const unsupported = "UnsupportedImageError: The operating system and/or package manager are not supported."

// ScanTarget is an image to be scanned.
type ScanTarget struct {
	Account, Region, Repository, Digest string
	Manifest                            []byte
	// Layer is the path of the file with a layer or the configuration.
	Layer func(digest string) string
}

// scan is the last scan of an image.
type scan struct {
	Status      types.ScanStatus
	Description string
	Completed   time.Time
	Findings    []types.ImageScanFinding
}

func (c *scan) status() *types.ImageScanStatus {
	return &types.ImageScanStatus{Status: c.Status, Description: aws.String(c.Description)}
}

// counts are the numbers of findings by severity. Severities without findings are absent.
func (c *scan) counts() map[string]int32 {
	out := map[string]int32{}
	for _, f := range c.Findings {
		out[string(f.Severity)]++
	}
	return out
}

func (c *scan) summary() *types.ImageScanFindingsSummary {
	if c.Status != types.ScanStatusComplete {
		return nil
	}
	return &types.ImageScanFindingsSummary{FindingSeverityCounts: c.counts(), ImageScanCompletedAt: aws.Time(c.Completed), VulnerabilitySourceUpdatedAt: aws.Time(c.Completed)}
}

// imageScan is the detail of the event about a scan
// (https://docs.aws.amazon.com/AmazonECR/latest/userguide/ecr-eventbridge.html).
type imageScan struct {
	Status         types.ScanStatus `json:"scan-status"`
	RepositoryName string           `json:"repository-name"`
	Counts         map[string]int32 `json:"finding-severity-counts"`
	ImageDigest    string           `json:"image-digest"`
	ImageTags      []string         `json:"image-tags"`
}

// StartImageScan scans an image with the scanner of the configuration, and has done so
// when it returns. Without a scanner the status is UNSUPPORTED_IMAGE: this service has no
// data of vulnerabilities.
func (s *Service) StartImageScan(ctx context.Context, in *ecr.StartImageScanInput, optFns ...func(*ecr.Options)) (*ecr.StartImageScanOutput, error) {
	if in.ImageId == nil {
		return nil, invalid("imageId", "must not be null")
	}
	var digest string
	var key scope.Key
	err := s.change(s.caller(ctx, optFns), in.RegistryId, in.RepositoryName, func(k scope.Key, r *repository) error {
		found, err := r.one(k, *in.ImageId)
		switch {
		case err != nil:
			return err
		case isIndex(found.MediaType):
			return &types.UnsupportedImageTypeException{Message: aws.String("The image is a list of images, which cannot be scanned")}
		case found.Scan != nil && s.cfg.Clock.Now().Sub(found.Scan.Completed) < scanEvery:
			return &types.LimitExceededException{Message: aws.String("The scan quota per image has been exceeded. Wait and try again.")}
		}
		key, digest = k, found.Digest
		return nil
	})
	if err != nil {
		return nil, err
	}
	if _, err := s.scan(ctx, key, *in.RepositoryName, digest); err != nil {
		return nil, err
	}
	// On AWS the scan has only begun when the call returns.
	return &ecr.StartImageScanOutput{
		ImageId:         &types.ImageIdentifier{ImageDigest: &digest, ImageTag: in.ImageId.ImageTag},
		ImageScanStatus: &types.ImageScanStatus{Status: types.ScanStatusInProgress}, RegistryId: aws.String(key.Account), RepositoryName: in.RepositoryName,
	}, nil
}

// scan scans one image, records the result and emits its event. The caller does not hold s.mu.
func (s *Service) scan(ctx context.Context, k scope.Key, name, digest string) (*scan, error) {
	var target ScanTarget
	read := func(r *repository) error {
		found, ok := r.Images[digest]
		if !ok {
			return &types.ImageNotFoundException{Message: aws.String("The image was deleted")}
		}
		raw, err := s.pull(r, found)
		id := r.ID
		target = ScanTarget{Account: k.Account, Region: k.Region, Repository: name, Digest: digest, Manifest: raw, Layer: func(digest string) string { return s.blobs.blob(id, digest) }}
		return err
	}
	if err := s.with(k, name, read); err != nil {
		return nil, err
	}
	made := &scan{Status: types.ScanStatusUnsupportedImage, Description: unsupported}
	if s.cfg.Scanner != nil {
		findings, err := s.cfg.Scanner(ctx, target)
		made = &scan{Status: types.ScanStatusComplete, Description: "The scan was completed successfully.", Findings: findings}
		if err != nil {
			made = &scan{Status: types.ScanStatusFailed, Description: err.Error()}
		}
	}
	made.Completed = s.cfg.Clock.Now()
	var tags []string
	if err := s.with(k, name, func(r *repository) error {
		if found := r.Images[digest]; found != nil {
			found.Scan, tags = made, r.tagsOf(digest)
		}
		return nil
	}); err != nil {
		return nil, err
	}
	s.emit(ctx, k, "ECR Image Scan", []string{arn(k, name)}, imageScan{
		Status: made.Status, RepositoryName: name, Counts: made.counts(), ImageDigest: digest, ImageTags: append([]string{}, tags...),
	})
	return made, nil
}

// with calls f with a repository, while it holds s.mu.
func (s *Service) with(k scope.Key, name string, f func(*repository) error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	r, err := s.find(k, name)
	if err != nil {
		return err
	}
	return f(r)
}

// DescribeImageScanFindings returns the result of the last scan of an image.
func (s *Service) DescribeImageScanFindings(ctx context.Context, in *ecr.DescribeImageScanFindingsInput, optFns ...func(*ecr.Options)) (*ecr.DescribeImageScanFindingsOutput, error) {
	if in.ImageId == nil {
		return nil, invalid("imageId", "must not be null")
	}
	size, err := limit(in.MaxResults, page, maxPage)
	if err != nil {
		return nil, err
	}
	out := &ecr.DescribeImageScanFindingsOutput{}
	return out, s.change(s.caller(ctx, optFns), in.RegistryId, in.RepositoryName, func(k scope.Key, r *repository) error {
		found, err := r.one(k, *in.ImageId)
		if err != nil {
			return err
		}
		if found.Scan == nil {
			return &types.ScanNotFoundException{Message: aws.String(fmt.Sprintf(
				"Image scan does not exist for the image with '{imageDigest:'%s', imageTag:'%s'}' in the repository with name '%s' in the registry with id '%s'",
				found.Digest, orNull(aws.ToString(in.ImageId.ImageTag)), r.Name, k.Account))}
		}
		out.ImageId = &types.ImageIdentifier{ImageDigest: aws.String(found.Digest), ImageTag: in.ImageId.ImageTag}
		out.RegistryId, out.RepositoryName, out.ImageScanStatus = aws.String(k.Account), aws.String(r.Name), found.Scan.status()
		if found.Scan.Status != types.ScanStatusComplete {
			return nil
		}
		findings, next, err := pageOf(slices.Clone(found.Scan.Findings), in.NextToken, size)
		out.NextToken = next
		out.ImageScanFindings = &types.ImageScanFindings{
			Findings: findings, FindingSeverityCounts: maps.Clone(found.Scan.counts()), ImageScanCompletedAt: aws.Time(found.Scan.Completed), VulnerabilitySourceUpdatedAt: aws.Time(found.Scan.Completed),
		}
		return err
	})
}
