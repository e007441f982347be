package stored

import "unsafe"

// aliasString returns b as a string that shares its memory, so that decoding copies nothing: copying each name and value
// would be about forty allocations a response. Nobody may change b any more.
func aliasString(b []byte) string {
	return unsafe.String(unsafe.SliceData(b), len(b))
}
