package s3

import (
	"slices"

	"github.com/johannesboyne/gofakes3"
)

// VersioningConfiguration implements gofakes3.VersionedBackend.
func (s *store) VersioningConfiguration(name string) (gofakes3.VersioningConfiguration, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	b, err := s.bucket(name)
	if err != nil {
		return gofakes3.VersioningConfiguration{}, err
	}
	return gofakes3.VersioningConfiguration{Status: b.Versioning}, nil
}

// SetVersioningConfiguration implements gofakes3.VersionedBackend.
func (s *store) SetVersioningConfiguration(name string, v gofakes3.VersioningConfiguration) error {
	if v.MFADelete.Enabled() {
		return gofakes3.ErrNotImplemented
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	b, err := s.bucket(name)
	if err != nil {
		return err
	}
	if v.Enabled() {
		b.Versioning = gofakes3.VersioningEnabled
	} else if b.Versioning == gofakes3.VersioningEnabled {
		b.Versioning = gofakes3.VersioningSuspended
	}
	return nil
}

func (s *store) getVersion(bucketName, key string, id gofakes3.VersionID, request *gofakes3.ObjectRangeRequest, body bool) (*gofakes3.Object, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	b, err := s.bucket(bucketName)
	if err != nil {
		return nil, err
	}
	for _, o := range b.Objects[key] {
		if o.VersionID == string(id) {
			return s.open(key, o, request, body)
		}
	}
	return nil, gofakes3.ErrNoSuchVersion
}

// GetObjectVersion implements gofakes3.VersionedBackend.
func (s *store) GetObjectVersion(bucketName, key string, id gofakes3.VersionID, request *gofakes3.ObjectRangeRequest) (*gofakes3.Object, error) {
	if id == "" {
		return s.GetObject(bucketName, key, request)
	}
	return s.getVersion(bucketName, key, id, request, true)
}

// HeadObjectVersion implements gofakes3.VersionedBackend.
func (s *store) HeadObjectVersion(bucketName, key string, id gofakes3.VersionID) (*gofakes3.Object, error) {
	if id == "" {
		return s.HeadObject(bucketName, key)
	}
	return s.getVersion(bucketName, key, id, nil, false)
}

// DeleteObjectVersion implements gofakes3.VersionedBackend.
func (s *store) DeleteObjectVersion(bucketName, key string, id gofakes3.VersionID) (gofakes3.ObjectDeleteResult, error) {
	return (&view{store: s}).DeleteObjectVersion(bucketName, key, id)
}

// removeVersion permanently deletes one version. s.mu is held.
func (s *store) removeVersion(b *bucket, key, id string) (gofakes3.ObjectDeleteResult, []change) {
	if id == "null" {
		id = ""
	}
	i := slices.IndexFunc(b.Objects[key], func(o object) bool { return o.VersionID == id })
	if i < 0 {
		return gofakes3.ObjectDeleteResult{}, nil
	}
	gone := b.Objects[key][i]
	s.drop(gone)
	b.Objects[key] = slices.Delete(b.Objects[key], i, i+1)
	if len(b.Objects[key]) == 0 {
		delete(b.Objects, key)
	}
	return gofakes3.ObjectDeleteResult{IsDeleteMarker: gone.marker(), VersionID: gofakes3.VersionID(gone.VersionID)}, []change{s.deleted(b, key, gone, false)}
}

// ListBucketVersions implements gofakes3.VersionedBackend: by key, newest
// version first.
func (s *store) ListBucketVersions(name string, prefix *gofakes3.Prefix, page *gofakes3.ListBucketVersionsPage) (*gofakes3.ListBucketVersionsResult, error) {
	if prefix == nil {
		prefix = &gofakes3.Prefix{}
	}
	if page == nil {
		page = &gofakes3.ListBucketVersionsPage{}
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	result := gofakes3.NewListBucketVersionsResult(name, prefix, page)
	b, err := s.bucket(name)
	if err != nil {
		return result, err
	}
	count, lastKey, lastVersion := int64(0), "", gofakes3.VersionID("")
	for _, key := range b.keys(prefix.Prefix) {
		if key < page.KeyMarker || key == page.KeyMarker && !page.HasVersionIDMarker && page.HasKeyMarker {
			continue
		}
		if group := commonPrefix(key, prefix); group != "" {
			result.AddPrefix(group)
			continue
		}
		skipping := key == page.KeyMarker && page.HasVersionIDMarker
		versions := b.Objects[key]
		for i, o := range slices.Backward(versions) {
			id := gofakes3.VersionID(o.VersionID)
			if id == "" {
				id = "null"
			}
			if skipping {
				skipping = id != page.VersionIDMarker
				continue
			}
			if page.MaxKeys > 0 && count == page.MaxKeys {
				result.IsTruncated, result.NextKeyMarker, result.NextVersionIDMarker = true, lastKey, lastVersion
				return result, nil
			}
			count++
			lastKey, lastVersion = key, id
			result.Versions = append(result.Versions, versionItem(key, o, id, i == len(versions)-1))
		}
	}
	return result, nil
}

func versionItem(key string, o object, id gofakes3.VersionID, latest bool) gofakes3.VersionItem {
	if o.marker() {
		return &gofakes3.DeleteMarker{Key: key, VersionID: id, IsLatest: latest, LastModified: gofakes3.NewContentTime(o.Modified)}
	}
	return &gofakes3.Version{
		Key: key, VersionID: id, IsLatest: latest, LastModified: gofakes3.NewContentTime(o.Modified),
		Size: o.Size, ETag: `"` + o.MD5 + `"`, StorageClass: gofakes3.StorageStandard,
	}
}
