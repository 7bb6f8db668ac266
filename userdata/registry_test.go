package userdata_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/require"
)

// testRegistry is a registry in files: what a GET of /v2/… answers, for one
// image that holds one program.
type testRegistry struct {
	digest string            // of the image's manifest
	files  map[string][]byte // by path below /v2/
}

const (
	manifestType = "application/vnd.docker.distribution.manifest.v2+json"
	configType   = "application/vnd.docker.container.image.v1+json"
	layerType    = "application/vnd.docker.image.rootfs.diff.tar.gzip"
)

func newTestRegistry(t *testing.T, repository string, program []byte) testRegistry {
	t.Helper()
	var layer, zipped bytes.Buffer
	archive := tar.NewWriter(&layer)
	require.NoError(t, archive.WriteHeader(&tar.Header{Name: "service", Mode: 0o755, Size: int64(len(program))}))
	_, err := archive.Write(program)
	require.NoError(t, err)
	require.NoError(t, archive.Close())
	zip := gzip.NewWriter(&zipped)
	_, err = zip.Write(layer.Bytes())
	require.NoError(t, err)
	require.NoError(t, zip.Close())

	r := testRegistry{files: map[string][]byte{}}
	blob := func(mediaType string, content []byte) map[string]any {
		digest := "sha256:" + hexDigest(content)
		r.files[repository+"/blobs/"+digest] = content
		return map[string]any{"mediaType": mediaType, "digest": digest, "size": len(content)}
	}
	encode := func(v any) []byte {
		data, err := json.Marshal(v)
		require.NoError(t, err)
		return data
	}
	config := encode(map[string]any{
		"architecture": "amd64", "os": "linux",
		"config": map[string]any{"Entrypoint": []string{"/service"}},
		"rootfs": map[string]any{"type": "layers", "diff_ids": []string{"sha256:" + hexDigest(layer.Bytes())}},
	})
	manifest := encode(map[string]any{
		"schemaVersion": 2, "mediaType": manifestType,
		"config": blob(configType, config), "layers": []any{blob(layerType, zipped.Bytes())},
	})
	r.digest = "sha256:" + hexDigest(manifest)
	r.files[repository+"/manifests/"+r.digest] = manifest
	r.files[repository+"/manifests/latest"] = manifest
	return r
}

// registryServer serves the files of a testRegistry on the guest's loopback: on
// port 5000 docker may speak to it without TLS; where there is a certificate it
// has the port and the name of an organisation's own registry.
const registryServer = `import http.server, os, ssl, sys

class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self, body=True):
        path = "/srv/registry" + self.path
        if self.path == "/v2/":
            content = b"{}"
        elif os.path.isfile(path):
            content = open(path, "rb").read()
        else:
            return self.send_error(404)
        self.send_response(200)
        kind = "` + manifestType + `" if "/manifests/" in path else "application/octet-stream"
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if body:
            self.wfile.write(content)

    def do_HEAD(self):
        self.do_GET(body=False)

tls = os.path.isfile("/srv/registry/tls.pem")
server = http.server.ThreadingHTTPServer(("127.0.0.1", 443 if tls else 5000), Handler)
if tls:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain("/srv/registry/tls.pem")
    server.socket = context.wrap_socket(server.socket, server_side=True)
server.serve_forever()
`
