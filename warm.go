package fluster

import (
	"bufio"
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/signal"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/dunglas/httpsfv"
	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"
)

// warmCommand is `caddy fluster warm`: it asks for URLs as clients do, so that they
// are stored before clients ask.
func warmCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "warm [<url>...]", Short: "Asks for URLs, so that they are stored before clients ask for them",
		Long: `
'caddy fluster warm' asks for each URL once, as a client does, reads the response to its
end, and tells what became of them: how many are stored now, how many were there, and
why others are not stored, as Cache-Status says it.

	caddy fluster warm https://example.com/ https://example.com/docs/
	caddy fluster warm --sitemap https://example.com/sitemap.xml --concurrency 16
	caddy fluster warm --from urls.txt --to 10.0.0.7:443 -H 'Accept-Encoding: gzip'

It exits with 1 if a URL could not be had, or its server answered with 500 or above.`,
		RunE: runWarm,
	}
	f := cmd.Flags()
	f.String("from", "", "File of URLs, one a line; - is standard input")
	f.StringArray("sitemap", nil, "URL of a sitemap, or of an index of such (may be given several times)")
	f.Int("concurrency", 8, "How many are asked for at a time")
	f.StringArrayP("header", "H", nil, "A field of the requests, as Name: value (may be given several times)")
	f.String("to", "", "host:port to connect to, whatever host a URL names")
	f.Bool("insecure", false, "Do not verify certificates")
	f.Duration("timeout", time.Minute, "The longest that one response may take")
	return cmd
}

// runWarm warms what its arguments say.
func runWarm(cmd *cobra.Command, args []string) error {
	w, err := newWarmer(cmd)
	if err != nil {
		return err
	}
	defer w.client.CloseIdleConnections()
	urls, err := w.urls(cmd.Context(), cmd, args)
	if err != nil {
		return err
	}
	concurrency, _ := cmd.Flags().GetInt("concurrency")
	if concurrency < 1 {
		return fmt.Errorf("--concurrency must be at least 1, not %d", concurrency)
	}
	// Until here there is nothing to tell of, and who waits for standard input is ended at once.
	ctx, stop := signal.NotifyContext(cmd.Context(), os.Interrupt)
	defer stop()
	bar := newBar(cmd.OutOrStdout(), len(urls), "asked for")
	group := new(errgroup.Group)
	group.SetLimit(concurrency)
	for _, u := range urls {
		if ctx.Err() != nil {
			break
		}
		group.Go(func() error {
			bar.show(w.note(w.ask(ctx, u)))
			return nil
		})
	}
	_ = group.Wait()      // each is noted
	bar.end(w.asked, nil) //nolint:errcheck // there is none
	w.print(cmd.OutOrStdout())
	switch {
	case ctx.Err() != nil:
		return errors.New("interrupted")
	case w.failed > 0:
		return fmt.Errorf("%d of %d failed", w.failed, w.asked)
	}
	return nil
}

// A warmer asks for URLs, and counts what became of them.
type warmer struct {
	client  *http.Client
	header  http.Header
	timeout time.Duration

	mu      sync.Mutex // guards all below
	asked   int
	failed  int
	counts  map[string]int // by outcome
	example map[string]string
}

// newWarmer returns one as the flags say.
func newWarmer(cmd *cobra.Command) (*warmer, error) {
	f := cmd.Flags()
	lines, _ := f.GetStringArray("header")
	to, _ := f.GetString("to")
	proxy := http.ProxyFromEnvironment
	if to != "" {
		proxy = nil // what is there is none
	}
	insecure, _ := f.GetBool("insecure")
	w := &warmer{header: http.Header{"User-Agent": {"caddy-fluster-warm"}}, counts: map[string]int{}, example: map[string]string{}}
	w.timeout, _ = f.GetDuration("timeout")
	fields, err := fieldLines(lines)
	if err != nil {
		return nil, err
	}
	maps.Copy(w.header, fields)
	if _, _, err := net.SplitHostPort(to); to != "" && err != nil {
		return nil, fmt.Errorf("--to must be host:port: %w", err)
	}
	dialer := new(net.Dialer)
	w.client = &http.Client{
		Transport: &http.Transport{
			Proxy: proxy, DisableCompression: true, ForceAttemptHTTP2: true, MaxIdleConnsPerHost: 64,
			TLSClientConfig: &tls.Config{InsecureSkipVerify: insecure}, //nolint:gosec // as it was asked for
			DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
				return dialer.DialContext(ctx, network, cmp.Or(to, addr))
			},
		},
		// A redirection may be stored as well.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	return w, nil
}

// get asks for a URL by a client. The response's body is the caller's to close.
func (w *warmer) get(ctx context.Context, client *http.Client, u string) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u, http.NoBody)
	if err != nil {
		return nil, err
	}
	req.Header = w.header.Clone()
	takeHost(req)
	return client.Do(req)
}

// ask asks for a URL, and says what became of it. What is not whole is not stored, so it
// is read to its end.
func (w *warmer) ask(ctx context.Context, u string) (string, warmed) {
	ctx, cancel := context.WithTimeout(ctx, w.timeout)
	defer cancel()
	resp, err := w.get(ctx, w.client, u)
	if failure, ok := errors.AsType[*url.Error](err); ok {
		err = failure.Err // it is told once for all URLs
	}
	if err != nil {
		return u, warmed{text: "failed: " + err.Error(), failed: true}
	}
	defer resp.Body.Close()
	if _, err := io.Copy(io.Discard, resp.Body); err != nil {
		return u, warmed{text: "failed: " + err.Error(), failed: true}
	}
	if resp.StatusCode >= http.StatusInternalServerError {
		return u, warmed{text: "failed: " + resp.Status, failed: true}
	}
	return u, warmed{text: toldBy(resp.Header)}
}

// warmed is what became of a URL.
type warmed struct {
	text   string
	failed bool
}

// note counts an outcome, and returns how many there were.
func (w *warmer) note(u string, o warmed) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.asked++
	if o.failed {
		w.failed++
	}
	w.counts[o.text]++
	if w.example[o.text] == "" {
		w.example[o.text] = u
	}
	return w.asked
}

// print tells what became of the URLs, the commonest first.
func (w *warmer) print(out io.Writer) {
	texts := slices.SortedFunc(maps.Keys(w.counts), func(a, b string) int {
		return cmp.Or(cmp.Compare(w.counts[b], w.counts[a]), cmp.Compare(a, b))
	})
	for _, text := range texts {
		switch {
		case text == outcomeStored, text == outcomeThere:
			fmt.Fprintf(out, "%7d %s\n", w.counts[text], text)
		default:
			fmt.Fprintf(out, "%7d %s, as %s\n", w.counts[text], text, w.example[text])
		}
	}
}

const (
	outcomeStored = "stored"
	outcomeThere  = "there before"
)

// toldBy returns what this cache's member of Cache-Status says.
func toldBy(h http.Header) string {
	list, err := httpsfv.UnmarshalList(h.Values("Cache-Status"))
	if err != nil {
		return "told nothing that can be read of the cache"
	}
	for _, member := range list {
		item, ok := member.(httpsfv.Item)
		if !ok || item.Value != httpsfv.Token(cacheName) {
			continue
		}
		has := func(name string) bool { _, ok := item.Params.Get(name); return ok }
		switch {
		case has("hit"):
			return outcomeThere
		case has("stored"), has("collapsed"):
			return outcomeStored
		}
		detail, _ := item.Params.Get("detail")
		if fwd, _ := item.Params.Get("fwd"); detail == nil {
			detail = fwd
		}
		return fmt.Sprint("not stored: ", detail)
	}
	return "told nothing of the cache"
}

// urls returns the URLs to be asked for, each once.
func (w *warmer) urls(ctx context.Context, cmd *cobra.Command, args []string) ([]string, error) {
	f := cmd.Flags()
	from, _ := f.GetString("from")
	sitemaps, _ := f.GetStringArray("sitemap")
	all := slices.Clone(args)
	for _, u := range args {
		if err := checkURL(u); err != nil {
			return nil, err
		}
	}
	if from != "" {
		urls, err := readURLs(cmd.InOrStdin(), from)
		if err != nil {
			return nil, err
		}
		all = append(all, urls...)
	}
	for _, u := range sitemaps {
		urls, err := w.sitemap(ctx, u, true)
		if err != nil {
			return nil, fmt.Errorf("sitemap %s: %w", u, err)
		}
		all = append(all, urls...)
	}
	if len(all) == 0 {
		return nil, errors.New("nothing to ask for: name URLs, --from or --sitemap")
	}
	seen := map[string]bool{}
	return slices.DeleteFunc(all, func(u string) bool {
		before := seen[u]
		seen[u] = true
		return before
	}), nil
}

// readURLs reads a file of URLs; empty lines and those that begin with # are none.
func readURLs(in io.Reader, from string) (urls []string, err error) {
	if from != "-" {
		file, err := os.Open(from)
		if err != nil {
			return nil, err
		}
		defer file.Close()
		in = file
	}
	lines := bufio.NewScanner(in)
	lines.Buffer(nil, 1<<20)
	for n := 1; lines.Scan(); n++ {
		u := strings.TrimSpace(lines.Text())
		if u == "" || strings.HasPrefix(u, "#") {
			continue
		}
		if err := checkURL(u); err != nil {
			return nil, fmt.Errorf("%s:%d: %w", from, n, err)
		}
		urls = append(urls, u)
	}
	return urls, lines.Err()
}

func checkURL(raw string) error {
	u, err := url.Parse(raw)
	if err == nil && (u.Scheme != "http" && u.Scheme != "https" || u.Host == "") {
		err = fmt.Errorf("%q is no URL like https://host/path", raw)
	}
	return err
}
