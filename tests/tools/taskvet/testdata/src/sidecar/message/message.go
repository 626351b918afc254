package message

type Stream interface {
	ReadHead() error
	Reset()
}
