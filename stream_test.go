package fluster

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddy-fluster/caddy-fluster/stored"
)

// slowWriter is a client that takes a block in each interval, or none if that is 0.
type slowWriter struct {
	*httptest.ResponseRecorder
	every time.Duration
	stop  chan struct{}
}

func (w *slowWriter) Write(p []byte) (int, error) {
	if w.every == 0 {
		<-w.stop
		return 0, errNobodyWants
	}
	time.Sleep(w.every)
	return w.ResponseRecorder.Write(p)
}

// TestPace is the rules of a body that passes by without chunks: how long the
// forward takes, and who is sent away.
func TestPace(t *testing.T) {
	const length = 8 << 20
	block := bytes.Repeat([]byte("x"), blockSize)
	tests := []struct {
		name  string
		etag  string
		every []time.Duration // of each client; 0 takes nothing
		most  time.Duration
		want  []bodyEnd
	}{
		{"all fast", "", []time.Duration{1, 1, 1}, time.Second, []bodyEnd{atEnd, atEnd, atEnd}},
		{"a lone slow one", `"a"`, []time.Duration{time.Second}, (length/blockSize + 1) * time.Second, []bodyEnd{atEnd}},
		{"a slow one, who cannot go on alone", `W/"a"`, []time.Duration{1, time.Second}, (length/blockSize + 1) * time.Second, []bodyEnd{atEnd, atEnd}},
		{"a slow one, who can", `"a"`, []time.Duration{1, time.Second}, 2 * slowest, []bodyEnd{atEnd, lost}},
		{"a slow one, for whom others wait", "", []time.Duration{1, 1, time.Second}, (length/blockSize + 1) * time.Second, []bodyEnd{atEnd, atEnd, atEnd}},
		{"many slow ones, who can", `"a"`, []time.Duration{1, 1100 * time.Millisecond, 1300 * time.Millisecond, 1700 * time.Millisecond,
			2300 * time.Millisecond, 3700 * time.Millisecond, 7 * time.Second}, 3*slowest + 2*time.Second, []bodyEnd{atEnd, lost, lost, lost, lost, lost, lost}},
		{"two who are as slow", `"a"`, []time.Duration{15 * time.Second, 15 * time.Second}, (length/blockSize + 1) * 15 * time.Second, []bodyEnd{atEnd, atEnd}},
		{"one that takes nothing", "", []time.Duration{1, 0}, slowest + 2*time.Second, []bodyEnd{atEnd, gone}},
	}
	for i := range 2 * len(tests) {
		tt, crowded, unit := tests[i/2], i%2 > 0, int64(longBlock)
		name, others := tt.name, int64(0)
		if crowded { // there is little room, as others hold much
			name, others, unit = name+", among many", plenty, blockSize
		}
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				fs := &flights{open: map[string]*flight{}}
				fs.recorded.Add(others)
				f, _ := fs.join("key")
				head := newEntry(&stored.Response{Status: 200, Header: stored.HeaderOf(stored.Field{Name: "Etag", Value: tt.etag})}, 0)
				f.passBy()
				f.share(head, length)
				stop := make(chan struct{})
				ends := make([]chan bodyEnd, len(tt.every))
				for i, every := range tt.every {
					x := &exchange{w: &slowWriter{httptest.NewRecorder(), every, stop}, r: httptest.NewRequest(http.MethodGet, "/", nil)}
					f.mu.Lock()
					f.followLocked(x, 0)
					f.mu.Unlock()
					ends[i] = make(chan bodyEnd, 1)
					go func() {
						_, end := x.takeBody(f, x.w, 0)
						f.leave(x)
						ends[i] <- end
					}()
				}
				start := time.Now()
				for range length / blockSize {
					f.add(block, 0)
					if held := fs.recorded.Load() - others; held > behind+3*unit {
						t.Fatalf("%d bytes are held, want at most %d", held, behind+3*unit)
					}
				}
				took := time.Since(start)
				f.settle(whole)
				close(stop)
				for i, end := range ends {
					if got := <-end; got != tt.want[i] {
						t.Errorf("client %d: its response ended as %d, want %d", i, got, tt.want[i])
					}
				}
				if f.end(); took > tt.most {
					t.Errorf("the forward took %s, want at most %s", took, tt.most)
				}
				if held := fs.recorded.Load() - others; held != 0 {
					t.Errorf("%d bytes are held when all is over", held)
				}
			})
		})
	}
}

// TestNobodyNeedsTheForward: who takes the rest of a body from elsewhere, as long as that
// may take, keeps neither a forward going whose leader has gone, nor memory.
func TestNobodyNeedsTheForward(t *testing.T) {
	for _, isSentAway := range []bool{true, false} {
		fs := &flights{open: map[string]*flight{}}
		f, _ := fs.join("key")
		head := newEntry(&stored.Response{Status: 200, Header: stored.HeaderOf(stored.Field{Name: "Etag", Value: `"a"`})}, 0)
		f.passBy()
		f.share(head, 1<<20)
		ctx, cancel := context.WithCancel(t.Context())
		f.cancel = cancel
		x := &exchange{r: httptest.NewRequest(http.MethodGet, "/", nil)}
		f.followLocked(x, 0)
		f.add(make([]byte, blockSize), 0)
		if isSentAway {
			f.evictLocked(0)
		}
		if f.leaderGone(); ctx.Err() != nil {
			t.Errorf("sent away: %v: the forward is ended before it is known how long it would be", isSentAway)
		}
		if n, ok := f.finalLength(x); n != 1<<20 || !ok || ctx.Err() == nil {
			t.Errorf("sent away: %v: it is told %d, %v, and the forward is ended: %v", isSentAway, n, ok, ctx.Err() != nil)
		}
		if f.end(); fs.recorded.Load() != 0 {
			t.Errorf("sent away: %v: %d bytes are held", isSentAway, fs.recorded.Load())
		}
	}
}

// TestEndIsAwaited: who needs the length of a body to get the rest of it elsewhere waits
// no longer for a client that takes nothing than others do, and not at all where the rest
// is not to be had.
func TestEndIsAwaited(t *testing.T) {
	const length = 8 << 20
	block := bytes.Repeat([]byte("x"), blockSize)
	for name, tt := range map[string]struct {
		etag   string
		stored bool
		want   int64 // the length that is told, 0: none
		most   time.Duration
	}{
		"it is not stored":               {`"a"`, false, length, slowest + 2*time.Second},
		"the node does not give it back": {`"a"`, true, length, slowest + 2*time.Second},
		"it cannot be divided":           {`W/"a"`, false, 0, 0},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f, _ := (&flights{open: map[string]*flight{}}).join("key")
				f.passBy()
				f.share(newEntry(&stored.Response{Status: 200, Header: stored.HeaderOf(stored.Field{Name: "Etag", Value: tt.etag})}, 0), -1)
				if tt.stored {
					f.fill = &fill{size: chunkSize, queue: make(chan []byte), dead: make(chan struct{}), letGo: func() {}}
				}
				stop := make(chan struct{})
				stuck := &exchange{w: &slowWriter{httptest.NewRecorder(), 0, stop}, r: httptest.NewRequest(http.MethodGet, "/", nil)}
				f.followLocked(stuck, 0)
				var wg sync.WaitGroup
				wg.Go(func() {
					stuck.takeBody(f, stuck.w, 0)
					f.leave(stuck)
				})
				start, took := time.Now(), time.Duration(0)
				wg.Go(func() {
					x := &exchange{r: httptest.NewRequest(http.MethodGet, "/", nil)}
					n, ok := f.finalLength(x)
					if took = time.Since(start); n != tt.want || ok != (tt.want > 0) {
						t.Errorf("it is told %d, %v, want %d", n, ok, tt.want)
					}
					f.leave(x)
				})
				time.AfterFunc(time.Minute, func() { close(stop) })
				for range length / blockSize {
					f.add(block, 0)
				}
				f.settle(whole)
				f.end()
				if wg.Wait(); took > tt.most {
					t.Errorf("it is told that after %s, want at most %s", took, tt.most)
				}
			})
		})
	}
}

// TestWaitersDoNotWakeEachOther: who has taken all there is waits while the forward is
// held up by somebody else, and is not woken by others who wait as well.
func TestWaitersDoNotWakeEachOther(t *testing.T) {
	f := (&flights{}).solo()
	f.add(make([]byte, 100), 1000)
	f.held = true
	one, other := &exchange{}, &exchange{}
	f.followLocked(one, 100)
	f.followLocked(other, 100)
	changed := f.take(one, 100).changed
	f.take(other, 100)
	select {
	case <-changed:
		t.Error("one was woken, and nothing has changed")
	default:
	}
}

// TestNobodyComesLate: when a flight goes on for nobody, or ends, who comes leads
// a forward of its own, and is not given what has come until then.
func TestNobodyComesLate(t *testing.T) {
	fs := &flights{open: map[string]*flight{}}
	head := newEntry(&stored.Response{Status: 200}, 0)
	for name, abandon := range map[string]func(f *flight){
		"nobody takes it": func(f *flight) {
			if f.goOn() {
				t.Error("it goes on for nobody")
			}
		},
		"its client has gone": func(f *flight) {
			f.cancel = func() {}
			f.leaderGone()
		},
		"its last follower has gone": func(f *flight) {
			f.cancel = func() {}
			x := &exchange{}
			f.followLocked(x, 0)
			f.leaderGone()
			if !f.goOn() {
				t.Error("it does not go on for its follower")
			}
			f.leave(x)
		},
		"it is sealed": func(f *flight) {
			if !f.seal() || len(f.blocks) > 0 {
				t.Errorf("it is not sealed, or %d blocks of it are held", len(f.blocks))
			}
		},
		"it is broken off": func(f *flight) { f.settle(broken) },
	} {
		f, _ := fs.join("key")
		f.share(head, 100)
		f.add([]byte("the beginning"), 0)
		abandon(f)
		next, leads := fs.join("key")
		if !leads || next == f {
			t.Errorf("%s: who comes then follows", name)
		}
		f.settle(whole)
		if again, leads := fs.join("key"); leads || again != next {
			t.Errorf("%s: when it is over, the next one cannot be followed", name)
		}
		next.settle(alone)
	}
}

// TestWholeBodyIsNotCopied: what has come at once, and is as long as was said, is
// kept where it lies.
func TestWholeBodyIsNotCopied(t *testing.T) {
	fs := &flights{open: map[string]*flight{}}
	for n := 1; n < firstBody; n += 1 + n/9 {
		f := fs.solo()
		f.length = int64(n)
		f.add(make([]byte, n), firstBody)
		body, ok := f.whole()
		if kept := fit(body); !ok || len(kept) != n || &kept[0] != &body[0] {
			t.Errorf("%d bytes: whole %v, and copied to %d", n, ok, len(kept))
		}
	}
}

// TestSlowLeaderIsNotForgotten: a client that was sent away from its own forward
// gets the rest when that is over, which therefore goes on when all others have gone:
// also while what that client was last given is yet on its way to it.
func TestSlowLeaderIsNotForgotten(t *testing.T) {
	for name, tt := range map[string]struct {
		every time.Duration
		leave func(f *flight, p *pump) bool // whether the other one hangs up
	}{
		"which has noticed": {time.Second, func(_ *flight, p *pump) bool { return p.lost.Load() }},
		"which has not":     {time.Minute, func(f *flight, _ *pump) bool { return len(f.evicted) > 0 }},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { testSlowLeader(t, tt.every, tt.leave) })
		})
	}
}

func testSlowLeader(t *testing.T, every time.Duration, leave func(*flight, *pump) bool) {
	fs := &flights{open: map[string]*flight{}}
	f, _ := fs.join("key")
	f.passBy()
	f.share(newEntry(&stored.Response{Status: 200, Header: stored.HeaderOf(stored.Field{Name: "Etag", Value: `"a"`})}, 0), -1)
	client := func(ctx context.Context, every time.Duration) *exchange {
		r := httptest.NewRequestWithContext(ctx, http.MethodGet, "/", nil)
		return &exchange{w: &slowWriter{httptest.NewRecorder(), every, nil}, r: r}
	}
	ctx, hangUp := context.WithCancel(t.Context())
	leader, follower := client(t.Context(), every), client(ctx, 1)
	w := &fillWriter{x: leader, fl: f, mode: passing, copying: true, pump: leader.startPump(f, 0)}
	f.mu.Lock()
	f.followLocked(follower, 0)
	f.mu.Unlock()
	go func() {
		follower.takeBody(f, follower.w, 0)
		f.leave(follower)
	}()
	const length = 100 * blockSize
	for w.got < length {
		time.Sleep(50 * time.Millisecond)
		if _, err := w.Write(make([]byte, blockSize)); err != nil {
			t.Fatalf("after %d bytes the forward ends: %v", w.got, err)
		}
		f.mu.Lock()
		if leave(f, w.pump) {
			hangUp()
		}
		f.mu.Unlock()
	}
	hangUp()
	f.settle(whole)
	<-w.pump.done
	if !w.pump.lost.Load() {
		t.Fatal("the slow one was not sent away")
	}
	if n, ok := f.finalLength(leader); n != length || !ok {
		t.Errorf("the final length: got %d, %t, want %d", n, ok, length)
	}
}

// goneWriter is a client's that has reset its stream.
type goneWriter struct{ http.ResponseWriter }

func (goneWriter) Write([]byte) (int, error) { return 0, io.ErrClosedPipe }

// TestBlockOfAClientThatIsGone: C1. The memory of what could not be written may yet be
// on its way to that client, and is nobody else's.
func TestBlockOfAClientThatIsGone(t *testing.T) {
	for name, tt := range map[string]struct {
		w     http.ResponseWriter
		reuse bool
	}{
		"there": {httptest.NewRecorder(), true},
		"gone":  {goneWriter{httptest.NewRecorder()}, false},
	} {
		fs := &flights{open: map[string]*flight{}}
		f, _ := fs.join("key")
		f.add(make([]byte, blockSize), 2*blockSize)
		b := f.blocks[0]
		f.settle(whole)
		x := &exchange{w: tt.w, r: httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/", nil)}
		f.followLocked(x, 0)
		x.takeBody(f, x.w, 0)
		f.end()
		f.leave(x)
		if reused := !b.dropped; reused != tt.reuse {
			t.Errorf("client %s: the block's memory is used again: %v, want %v", name, reused, tt.reuse)
		}
	}
}

// TestFlightThatIsHandedOver: who follows a forward whose connection is taken over has a
// response that was broken off, and does not wait for its end.
func TestFlightThatIsHandedOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fs := &flights{open: map[string]*flight{}}
		f, _ := fs.join("key")
		f.share(newEntry(&stored.Response{Status: 200}, 0), 100)
		f.add([]byte("the beginning"), 1000)
		x := &exchange{w: httptest.NewRecorder(), r: httptest.NewRequest(http.MethodGet, "/", nil)}
		f.followLocked(x, 0)
		time.AfterFunc(time.Second, func() { f.settle(alone) })
		if _, end := x.takeBody(f, x.w, 0); end != cutOff {
			t.Errorf("its response ended as %d, want %d", end, cutOff)
		}
	})
}

// TestNobodyWritesBesideThePump: what the handlers behind go on to send when nobody
// wants it any more does not get in the way of what the client is yet sent.
func TestNobodyWritesBesideThePump(t *testing.T) {
	client := httptest.NewRecorder()
	w := &fillWriter{
		ResponseWriter: client, x: &exchange{w: client, r: httptest.NewRequest(http.MethodGet, "/", nil)},
		fl: (&flights{}).solo(), mode: passing, pump: &pump{},
	}
	if _, err := w.ReadFrom(strings.NewReader("more")); !errors.Is(err, errNobodyWants) || client.Body.Len() > 0 {
		t.Errorf("got %v, and the client %q, want an error and nothing", err, client.Body)
	}
}
