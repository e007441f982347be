package fluster

import (
	"maps"
	"net/http"
	"slices"

	"github.com/caddy-fluster/caddy-fluster/httpcache"
)

// part is a stored partial response (206) that a request has found, and what
// the request wants of it. RFC 9111, Sections 3.3 and 3.4.
type part struct {
	f       *found
	have    httpcache.ContentRange
	want    httpcache.Range // what the client wants, the whole if it named no range
	ranged  bool            // the client named a range
	missing httpcache.Range // what the origin is asked for
}

// serveFromPart answers from a stored partial response if it has what the
// client wants; done is false if the origin has to be asked. A part that is not
// fresh is of no use: the whole is fetched.
func (x *exchange) serveFromPart(f *found, use httpcache.Reuse) (done bool, err error) {
	header := f.header()
	have, ok := httpcache.ContentRangeOf(header)
	if !ok || use.Use != httpcache.UseFresh || f.resp.BodySize != have.Length {
		return false, nil
	}
	p := &part{f: f, have: have}
	p.want, p.ranged = httpcache.WantedRange(x.r.Method, x.r.Header, header, have.Complete)
	if p.ranged && have.Contains(p.want) {
		if !x.openAt(f, p.in()) {
			return false, nil
		}
		x.noteHit(f)
		x.writePart(p, header)
		return true, nil
	}
	if !p.ranged {
		if have.Complete < 0 || x.r.Header["Range"] != nil || x.r.Method != http.MethodGet {
			return false, nil
		}
		p.want = httpcache.Range{Length: have.Complete}
	}
	missing := httpcache.Missing(have.Range, p.want)
	if len(missing) != 1 || missing[0].Start > have.End() || have.Start > missing[0].End() {
		return false, nil // parts with a gap between them are no part
	}
	if !mayDivide(&f.resp.Terms) {
		return false, nil // what is missing would be of other bytes
	}
	// Both together are in memory until the client has them, however slowly it reads.
	whole := max(have.End(), missing[0].End()) - min(have.Start, missing[0].Start)
	if whole > maxJoined || !x.hold(whole) {
		return false, nil
	}
	e, ok := x.load(f.entry, maxJoined)
	if !ok {
		return false, nil
	}
	p.f = &found{entry: e, where: f.where, soft: f.soft, blind: f.blind}
	p.missing = missing[0]
	x.part = p
	return false, nil
}

// maxJoined is the longest part that is joined with another one, in memory.
const maxJoined = 8 << 20

// in returns where what the client wants stands in the part.
func (p *part) in() httpcache.Range {
	return httpcache.Range{Start: p.want.Start - p.have.Start, Length: p.want.Length}
}

// writePart sends what the client wants of a part that has it, or that its own copy is
// still good: RFC 9110, Section 13.2.2, has that asked before Range.
func (x *exchange) writePart(p *part, header http.Header) {
	if x.isConditional() && x.isNotModified(p.f.entry) {
		x.writeNotModified(p.f)
		return
	}
	x.writeHead(p.f, httpcache.PartialHeader(header, p.want, p.have.Complete))
	x.w.Header().Set("Content-Length", itoa(p.want.Length))
	x.w.WriteHeader(http.StatusPartialContent)
	x.send(p.f, p.in())
}

// completes reports whether the response with this status and header has what
// is missing, of the same representation.
func (p *part) completes(status int, h http.Header, most int64) (httpcache.ContentRange, bool) {
	got, ok := httpcache.ContentRangeOf(h)
	if status != http.StatusPartialContent || !ok || !httpcache.Combinable(p.f.header(), h) {
		return got, false
	}
	whole, ok := httpcache.Join(p.have, got)
	return got, ok && whole.Length <= min(most, maxJoined) && whole.Contains(p.want)
}

// join combines the stored part with the one that came, and returns what is
// stored from now on, if the verdict says so.
func (x *exchange) join(p *part, h http.Header, got httpcache.ContentRange, body []byte, t httpcache.Times) (*entry, httpcache.ContentRange, httpcache.Verdict) {
	c, _ := httpcache.Join(p.have, got)
	header := httpcache.JoinedHeader(p.f.header(), h, c)
	status := http.StatusPartialContent
	if c.IsWhole() {
		status = http.StatusOK
	}
	v := x.policy.MayStore(x.asRequest(), status, header, t)
	tags := union(p.f.resp.Tags, httpcache.Tags(h, x.tags))
	switch {
	case !v.Store:
	case !httpcache.TagsFit(h, x.tags), len(tags) > httpcache.MaxTags:
		v = httpcache.Verdict{Detail: "tags"}
	case headerSize(header) > maxHeader:
		v = httpcache.Verdict{Detail: "max-header"}
	}
	joined := make([]byte, c.Length)
	copy(joined[p.have.Start-c.Start:], p.f.resp.Body)
	copy(joined[got.Start-c.Start:], body)
	resp := *p.f.resp
	resp.Status, resp.Terms = status, v.Terms
	if !v.Store {
		resp.Terms = httpcache.Unstored(header, t)
	}
	resp.Terms.Flags |= p.f.resp.Terms.Flags & httpcache.Untyped
	resp.Tags, resp.Groups = tags, union(p.f.resp.Groups, httpcache.CacheGroups(h))
	resp.Body, resp.BodySize = joined, int64(len(joined))
	drop(header, v.Drop, x.tags)
	resp.Header = fields(header, t.Received, p.f.asStored)
	x.renominate(&resp, v.Nominated)
	e := newEntry(&resp, x.place.learn)
	x.date(e)
	return e, c, v
}

// union returns the words of both, each once.
func union(a, b []string) []string {
	all := slices.Concat(a, b)
	slices.Sort(all)
	return slices.Compact(all)
}

// finishPart answers the client from the stored part and the one that came.
func (w *fillWriter) finishPart(body []byte) error {
	x, p := w.x, w.x.part
	h := maps.Clone(w.ownHeader())
	w.restore()
	e, c, v := x.join(p, h, w.gotRange, body, w.times)
	w.addUnstored(h, v.Drop)
	x.status = httpcache.CacheStatus{Fwd: "partial", FwdStatus: http.StatusPartialContent, Stored: v.Store, Detail: v.Detail}
	if v.Store && !x.overtaken(e) {
		x.keepWhole(e)
	}
	f := &found{entry: e}
	if p.ranged {
		x.writePart(&part{f: f, have: c, want: p.want}, e.header())
		return nil
	}
	return x.write(f)
}
