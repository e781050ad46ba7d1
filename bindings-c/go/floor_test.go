package unstale

import "testing"

// BenchmarkCgoFloor is a call into C that does nothing, with the arguments of a Get.
func BenchmarkCgoFloor(b *testing.B) {
	var cache Cache[int]
	for b.Loop() {
		cache.nothing("user:42")
	}
}
