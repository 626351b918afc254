package real

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"os"
	"path"
	"runtime"
	"slices"
	"time"
)

// NodeImage is an image made of nothing but files.
type NodeImage struct {
	// Name with tag, such as larboard.test/app:1. Pods name it with imagePullPolicy Never.
	Name string
	// Files are paths on this machine by paths in the image; all are executable.
	Files map[string]string
	// Entrypoint is what runs.
	Entrypoint []string
	// User is uid:gid; empty: root.
	User string
}

// Import makes an image known to the node.
func (n *Node) Import(image NodeImage) {
	n.t.Helper()
	archive, err := image.archive()
	if err != nil {
		n.t.Fatalf("image %s: %v", image.Name, err)
	}
	file := n.path("images/" + fmt.Sprintf("%x.tar", sha256.Sum256([]byte(image.Name))))
	if err := os.WriteFile(file, archive, 0o644); err != nil {
		n.t.Fatal(err)
	}
	n.Run(nodePatience, Installed(n.t, "ctr"), "-a", "/run/containerd/containerd.sock", "-n", "k8s.io", "images", "import", file)
	_ = os.Remove(file)
}

// archive is the image as `docker save` writes one.
func (i NodeImage) archive() ([]byte, error) {
	layer, err := i.layer()
	if err != nil {
		return nil, err
	}
	config, err := json.Marshal(map[string]any{
		"created": time.Unix(0, 0).UTC(), "architecture": runtime.GOARCH, "os": "linux",
		"config": map[string]any{"Entrypoint": i.Entrypoint, "User": i.User},
		"rootfs": map[string]any{"type": "layers", "diff_ids": []string{fmt.Sprintf("sha256:%x", sha256.Sum256(layer))}},
	})
	if err != nil {
		return nil, err
	}
	manifest, err := json.Marshal([]map[string]any{{"Config": "config.json", "RepoTags": []string{i.Name}, "Layers": []string{"layer.tar"}}})
	if err != nil {
		return nil, err
	}
	return pack([]packed{{"layer.tar", 0o644, layer}, {"config.json", 0o644, config}, {"manifest.json", 0o644, manifest}})
}

func (i NodeImage) layer() ([]byte, error) {
	all := []packed{{"tmp/", 0o1777, nil}}
	for to, from := range i.Files {
		data, err := os.ReadFile(from)
		if err != nil {
			return nil, err
		}
		all = append(all, packed{path.Clean(to)[1:], 0o755, data})
	}
	slices.SortFunc(all, func(a, b packed) int { return bytes.Compare([]byte(a.name), []byte(b.name)) })
	return pack(all)
}

// packed is one file of an archive; a directory's name ends in a slash.
type packed struct {
	name string
	mode int64
	data []byte
}

func pack(files []packed) ([]byte, error) {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, f := range files {
		kind := byte(tar.TypeReg)
		if f.data == nil {
			kind = tar.TypeDir
		}
		if err := w.WriteHeader(&tar.Header{Typeflag: kind, Name: f.name, Mode: f.mode, Size: int64(len(f.data)), ModTime: time.Unix(0, 0)}); err != nil {
			return nil, err
		}
		if _, err := w.Write(f.data); err != nil {
			return nil, err
		}
	}
	return b.Bytes(), w.Close()
}
