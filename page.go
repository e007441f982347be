package fluster

import (
	"bytes"
	"crypto/rand"
	_ "embed"
	pages "html/template"
	"net/http"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/dustin/go-humanize"
)

//go:embed page.html
var pageText string

var pageTemplate = pages.Must(pages.New("page").Funcs(pages.FuncMap{
	"bytes": humanize.IBytes,
	"for":   func(since time.Time) string { return time.Since(since).Round(time.Second).String() },
	"in":    func(at *time.Time) string { return max(0, time.Until(*at)).Round(time.Second).String() },
	"age":   func(seconds float64) string { return (time.Duration(seconds) * time.Second).String() },
}).Parse(pageText))

// page answers GET /fluster/ with a page for people: what /fluster/status says, and what
// /fluster/explain does of the URL that the form names.
func (a *adminAPI) page(app *App, w http.ResponseWriter, r *http.Request) error {
	data := struct {
		Status  appStatus
		Nears   []nearStatus
		Asked   string
		Failure string
		Explanation
		Nonce string
	}{Status: app.status(r.Context()), Asked: r.URL.Query().Get("url"), Nonce: rand.Text()}
	data.Nears = append([]nearStatus{data.Status.Near}, data.Status.Nears...)
	if data.Asked != "" {
		e, err := app.explain(r)
		if failure, ok := err.(caddy.APIError); ok { //nolint:errorlint // it is one
			data.Failure = failure.Err.Error()
		} else {
			data.Explanation = *e
		}
	}
	var b bytes.Buffer
	if err := pageTemplate.Execute(&b, data); err != nil {
		return err
	}
	h := w.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Content-Security-Policy", "default-src 'none'; connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'; "+
		"style-src 'nonce-"+data.Nonce+"'; script-src 'nonce-"+data.Nonce+"'")
	_, err := w.Write(b.Bytes())
	return err
}
