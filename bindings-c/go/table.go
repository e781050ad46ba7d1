package unstale

// #include "glue.h"
import "C"

import (
	"math/bits"
	"math/rand/v2"
	"runtime"
	"sync"
	"sync/atomic"
	"unsafe"
)

// The table of everything of Go's that the C library holds: cached values, loaders' errors, listeners.
//
// C knows them by a number: the slot in the low half, the slot's life in the high half. A box carries the number it was put
// in under, so a number whose value was freed meanwhile is recognised by one comparison; reading takes no lock. What C
// frees comes back on a list (glue.h); a slot on it is used again by the next put, or emptied at the end of the next
// garbage collection, whichever is first. So nothing runs in the background, and no C thread ever calls Go to free.

// header is the beginning of every box.
type header struct{ number uint64 }

// box is what a slot points to. Never written once it is in the table.
type box[V any] struct {
	header
	value V
}

const (
	shards       = C.US_SHARDS
	shardBits    = C.US_SHARD_BITS
	firstSegment = C.US_FIRST_SEGMENT
)

type shard struct {
	id uint32
	// Segment k has firstSegment<<k slots and never moves.
	slots [C.US_SEGMENTS]atomic.Pointer[[]atomic.Pointer[header]]
	c     *C.us_shard
	mu    sync.Mutex
	lives [C.US_SEGMENTS][]uint32 // by slot: the newest life
	next  [C.US_SEGMENTS][]uint32 // C's memory: by slot, the next of its list + 1
	dirty uint32                  // freed slots that still hold their box: the first + 1
	clean uint32                  // freed and emptied slots: the first + 1
	used  uint32                  // slots that were ever used
	_     [64]byte
}

var table = func() *[shards]shard {
	t := new([shards]shard)
	for i := range t {
		t[i].id, t[i].c = uint32(i), &C.us_shards[i]
	}
	return t
}()

// put makes a box of value; the caller hands its number to C, which frees it.
func put[V any](value V) uint64 {
	b := &box[V]{value: value}
	return table[rand.Uint32()%shards].put(&b.header)
}

// lookup finds the value of a number that came from C. False: it was freed meanwhile.
func lookup[V any](number uint64) (*box[V], bool) {
	slot := uint32(number)
	k, offset := place(slot >> shardBits)
	segment := table[slot%shards].slots[k].Load()
	if segment == nil {
		return nil, false
	}
	h := (*segment)[offset].Load()
	if h == nil || h.number != number {
		return nil, false
	}
	// The number is this box's, and whoever put it in under that number put a box[V] in.
	return (*box[V])(unsafe.Pointer(h)), true
}

// place is where a slot lies: its segment, and its offset there.
func place(slot uint32) (k, offset uint32) {
	k = uint32(bits.Len32(slot/firstSegment+1)) - 1
	return k, slot - firstSegment*(1<<k-1)
}

func (s *shard) put(h *header) uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	slot := s.free()
	k, offset := place(slot)
	life := s.lives[k][offset] + 1
	if life == 0 {
		life = 1 // 0 would make slot 0 of shard 0 the number 0, "no value"
	}
	s.lives[k][offset] = life
	h.number = uint64(life)<<32 | uint64(slot)<<shardBits | uint64(s.id)
	(*s.slots[k].Load())[offset].Store(h)
	return h.number
}

// free takes a slot that nobody uses.
func (s *shard) free() uint32 {
	if s.dirty == 0 {
		s.dirty = s.takeFreed()
	}
	for _, list := range []*uint32{&s.dirty, &s.clean} {
		if *list != 0 {
			slot := *list - 1
			*list = *s.nextOf(slot)
			return slot
		}
	}
	slot := s.used
	k, offset := place(slot)
	if offset == 0 {
		s.grow(k)
	}
	s.used++
	return slot
}

func (s *shard) grow(k uint32) {
	size := firstSegment << k
	var next *C.uint32_t
	if k < C.US_SEGMENTS {
		next = C.us_grow(C.uint32_t(s.id), C.uint32_t(k))
	}
	if next == nil {
		panic("unstale: out of memory for the table of values")
	}
	segment := make([]atomic.Pointer[header], size)
	s.lives[k] = make([]uint32, size)
	s.next[k] = unsafe.Slice((*uint32)(unsafe.Pointer(next)), size)
	s.slots[k].Store(&segment)
}

// takeFreed takes what C has freed since the last time.
func (s *shard) takeFreed() uint32 {
	head := (*uint32)(unsafe.Pointer(&s.c.head))
	if atomic.LoadUint32(head) == 0 {
		return 0
	}
	return atomic.SwapUint32(head, 0)
}

func (s *shard) nextOf(slot uint32) *uint32 {
	k, offset := place(slot)
	return &s.next[k][offset]
}

// sweepBatch slots are emptied at most before puts get their turn.
const sweepBatch = 4096

// sweep empties freed slots, so that the garbage collector can have what they held.
func (s *shard) sweep() {
	for more := true; more; {
		s.mu.Lock()
		for range sweepBatch {
			if s.dirty == 0 {
				s.dirty = s.takeFreed()
			}
			if more = s.dirty != 0; !more {
				break
			}
			slot := s.dirty - 1
			k, offset := place(slot)
			(*s.slots[k].Load())[offset].Store(nil)
			s.dirty, *s.nextOf(slot), s.clean = *s.nextOf(slot), s.clean, slot+1
		}
		s.mu.Unlock()
	}
}

func sweepTable() {
	for i := range table {
		table[i].sweep()
	}
}

// sweepAfterCollections sweeps after every garbage collection from now on: an object that nobody refers to is found by
// each of them.
var sweepAfterCollections = sync.OnceFunc(watchCollections)

func watchCollections() {
	// With a pointer inside, so that it is not allocated together with other objects, whose life it would share.
	type unreferenced struct{ _ *byte }
	runtime.AddCleanup(new(unreferenced), func(struct{}) {
		sweepTable()
		watchCollections()
	}, struct{}{})
}
