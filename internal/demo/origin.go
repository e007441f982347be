package main

import (
	"context"
	"embed"
	"fmt"
	"html/template"
	"io/fs"
	"math/rand/v2"
	"mime"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"
)

//go:embed site
var site embed.FS

// page is what the origin makes anew for each request, so that two answers
// differ and one that comes from the cache is seen to be the same.
var page = template.Must(template.New("page").Parse(`<!doctype html>
<title>{{.Title}}</title><link rel="stylesheet" href="/style.css">
<h1>{{.Title}}</h1>
<p>Made by the origin at {{.Time}}; it is page number {{.Number}} that it made.</p>
`))

// An origin is the web site behind the cache. The pages it makes are counted.
type origin struct {
	files  fs.FS // the checkout's documents, and a large file
	made   atomic.Int64
	addr   string
	server http.Server
}

// startOrigin lays out the site's files and starts to serve them.
func (d *demo) startOrigin(context.Context) error {
	dir := filepath.Join(d.dir, "files")
	if err := layOutFiles(dir, d.opt.root); err != nil {
		return fmt.Errorf("laying out the files of the origin: %w", err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return fmt.Errorf("starting the origin: %w", err)
	}
	o := &origin{files: os.DirFS(dir), addr: l.Addr().String()}
	o.server.Handler = o.handler()
	o.server.ReadHeaderTimeout = 10 * time.Second
	d.origin = o
	d.wg.Go(func() { _ = o.server.Serve(l) })
	d.say("origin: http://%s/", o.addr)
	return nil
}

// layOutFiles copies the documents of the checkout to dir and adds a file of
// 1 MiB.
func layOutFiles(dir, root string) error {
	if err := os.Mkdir(dir, 0o700); err != nil {
		return err
	}
	docs := filepath.Join(root, "docs")
	if _, err := os.Stat(docs); err == nil {
		if err := os.CopyFS(filepath.Join(dir, "docs"), os.DirFS(docs)); err != nil {
			return err
		}
	}
	texts, err := filepath.Glob(filepath.Join(root, "*.md"))
	if err != nil {
		return err
	}
	for _, text := range append(texts, filepath.Join(root, "LICENSE")) {
		content, err := os.ReadFile(text)
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(dir, filepath.Base(text)), content, 0o600); err != nil {
			return err
		}
	}
	large := make([]byte, 1<<20)
	_, _ = rand.NewChaCha8([32]byte{}).Read(large) // it never fails
	return os.WriteFile(filepath.Join(dir, "large.bin"), large, 0o600)
}

// handler returns the site.
func (o *origin) handler() http.Handler {
	// Browsers show plain text, but would save a text/markdown to disk.
	_ = mime.AddExtensionType(".md", "text/plain; charset=utf-8")
	static, err := fs.Sub(site, "site")
	if err != nil {
		panic(err) // the embedded tree has no such folder
	}
	mux := http.NewServeMux()
	mux.Handle("/", http.FileServerFS(static))
	mux.Handle("/files/", http.StripPrefix("/files", http.FileServerFS(o.files)))
	mux.HandleFunc("/time", func(w http.ResponseWriter, _ *http.Request) {
		o.makePage(w, "What time is it?")
	})
	mux.HandleFunc("/product/{id}", func(w http.ResponseWriter, r *http.Request) {
		id := r.PathValue("id")
		w.Header().Set("Cache-Control", "max-age=60")
		w.Header().Set("Surrogate-Key", "product-"+id)
		o.makePage(w, "Product "+id)
	})
	mux.HandleFunc("/slow", func(w http.ResponseWriter, r *http.Request) {
		select {
		case <-r.Context().Done():
		case <-time.After(time.Second):
			o.makePage(w, "A page that takes a second")
		}
	})
	mux.HandleFunc("/private", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Cache-Control", "private")
		o.makePage(w, "For your eyes only")
	})
	return mux
}

func (o *origin) makePage(w http.ResponseWriter, title string) {
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	_ = page.Execute(w, struct {
		Title, Time string
		Number      int64
	}{title, time.Now().Format("15:04:05.000"), o.made.Add(1)}) // a client that left is nobody's trouble
}

func (o *origin) close() { _ = o.server.Close() }
