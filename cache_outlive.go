package fluster

import (
	"context"
	"time"
)

// A forward that others wait for goes on when its client goes away, and so has a
// context of its own. Whether that client is still there is looked at: to be told
// costs each forward as much as all the rest of its context, and almost none is left
// alone. Those that last are told, as there may be thousands of them to look at.

// watchEvery is how often it is looked whether clients are still there, while there
// are any.
const watchEvery = 50 * time.Millisecond

// outlive returns the context of a forward that goes on without its client, whose
// context is ctx, while others wait for it.
func (f *flight) outlive(ctx context.Context) (context.Context, func()) {
	own, cancel := context.WithCancel(context.WithoutCancel(ctx))
	f.mu.Lock()
	f.cancel = cancel
	f.mu.Unlock()
	f.all.add(f, ctx)
	return own, func() {
		f.all.remove(f)
		cancel()
	}
}

// add puts a flight in the list of those that are watched.
func (fs *flights) add(f *flight, client context.Context) {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	f.client, f.next = client, fs.watched
	if f.next != nil {
		f.next.prev = f
	}
	fs.watched = f
	if !fs.watching {
		fs.watching = true
		time.AfterFunc(watchEvery, fs.look)
	}
}

// remove takes a flight out of the list, if it is there; nor is it told any more.
func (fs *flights) remove(f *flight) {
	fs.mu.Lock()
	fs.removeLocked(f)
	untell := f.untell
	fs.mu.Unlock()
	if untell != nil {
		untell()
	}
}

func (fs *flights) removeLocked(f *flight) {
	if f.client == nil {
		return
	}
	if f.prev == nil {
		fs.watched = f.next
	} else {
		f.prev.next = f.next
	}
	if f.next != nil {
		f.next.prev = f.prev
	}
	f.client, f.prev, f.next = nil, nil, nil
}

// look looks which clients have gone, and again in a while if there are some that
// were not looked at twice.
func (fs *flights) look() {
	for _, f := range fs.left() {
		f.leaderGone()
	}
}

// left takes the flights whose clients have gone out of the list, and those that were
// looked at before.
func (fs *flights) left() (left []*flight) {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	for f := fs.watched; f != nil; {
		client, next := f.client, f.next
		switch {
		case client.Err() != nil:
			fs.removeLocked(f)
			left = append(left, f)
		case f.looked:
			fs.removeLocked(f)
			f.untell = context.AfterFunc(client, f.leaderGone)
		}
		f.looked = true
		f = next
	}
	if fs.watching = fs.watched != nil; fs.watching {
		time.AfterFunc(watchEvery, fs.look)
	}
	return left
}
