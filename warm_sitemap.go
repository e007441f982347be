package fluster

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
)

// maxSitemap is the longest that a sitemap may be, uncompressed (sitemaps.org).
const maxSitemap = 50 << 20

// sitemap returns the URLs of a sitemap, and those of all that it leads to where it is
// an index and may be one.
func (w *warmer) sitemap(ctx context.Context, u string, mayBeIndex bool) ([]string, error) {
	urls, isIndex, err := w.getSitemap(ctx, u)
	if err != nil || !isIndex {
		return urls, err
	}
	if !mayBeIndex {
		return nil, errors.New("an index that is listed in an index")
	}
	var all []string
	for _, part := range urls {
		more, err := w.sitemap(ctx, part, false)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", part, err)
		}
		all = append(all, more...)
	}
	return all, nil
}

// getSitemap returns the locations in what is at a URL. Each part of an index is a
// response of its own, which may take as long as any.
func (w *warmer) getSitemap(ctx context.Context, u string) (urls []string, isIndex bool, err error) {
	if err := checkURL(u); err != nil {
		return nil, false, err
	}
	ctx, cancel := context.WithTimeout(ctx, w.timeout)
	defer cancel()
	// Many sites have theirs where /sitemap.xml leads to.
	resp, err := w.get(ctx, &http.Client{Transport: w.client.Transport}, u)
	if err != nil {
		return nil, false, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, false, errors.New(resp.Status)
	}
	return readSitemap(resp.Body)
}

// readSitemap returns the locations in a sitemap or an index of such, which may be
// compressed.
func readSitemap(in io.Reader) (urls []string, isIndex bool, err error) {
	buffered := bufio.NewReader(in)
	in = buffered
	if magic, _ := buffered.Peek(2); bytes.Equal(magic, []byte{0x1f, 0x8b}) {
		if in, err = gzip.NewReader(buffered); err != nil {
			return nil, false, err
		}
	}
	bounded := &io.LimitedReader{R: in, N: maxSitemap + 1}
	var doc struct {
		XMLName xml.Name
		URLs    []location `xml:"url"`
		Parts   []location `xml:"sitemap"`
	}
	err = xml.NewDecoder(bounded).Decode(&doc)
	switch {
	case bounded.N <= 0:
		return nil, false, fmt.Errorf("it is longer than %d MiB", maxSitemap>>20)
	case err != nil:
		return nil, false, fmt.Errorf("it is no sitemap: %w", err)
	case doc.XMLName.Local != "urlset" && doc.XMLName.Local != "sitemapindex":
		return nil, false, fmt.Errorf("<%s> is neither <urlset> nor <sitemapindex>", doc.XMLName.Local)
	}
	isIndex = doc.XMLName.Local == "sitemapindex"
	for _, l := range append(doc.URLs, doc.Parts...) {
		u := strings.TrimSpace(l.Loc)
		if err := checkURL(u); err != nil {
			return nil, false, err
		}
		urls = append(urls, u)
	}
	return urls, isIndex, nil
}

type location struct {
	Loc string `xml:"loc"`
}
