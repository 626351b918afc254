package engine

// Kept returns what the first call with this key on this loop made: pools of the packages
// above, one for each loop, which then need no lock. It lives as long as the loop. Loop only.
func (l *Loop) Kept(key any, first func() any) any {
	checkOwner(l)
	v, ok := l.kept[key]
	if !ok {
		if l.kept == nil {
			l.kept = map[any]any{}
		}
		v = first()
		l.kept[key] = v
	}
	return v
}
