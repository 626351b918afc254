package template

import "maps"

// Secret reports whether a field or a parameter of this name holds a secret: the name as a
// whole, or its last word, is in the list of SecretWords, whatever its case, its separators
// and its percent-encoding. It does not allocate.
func Secret(name []byte) bool {
	var whole, word nameBuffer
	for i := 0; i < len(name); i++ {
		b := name[i]
		if b == '%' && i+2 < len(name) {
			high, low := unhex(name[i+1]), unhex(name[i+2])
			if high >= 0 && low >= 0 {
				b = byte(high<<4 | low)
				i += 2
			}
		}
		if 'A' <= b && b <= 'Z' {
			b += 'a' - 'A'
		}
		if 'a' <= b && b <= 'z' || '0' <= b && b <= '9' {
			if word.ended {
				word = nameBuffer{}
			}
			whole.add(b)
			word.add(b)
		} else {
			word.ended = true
		}
	}
	return whole.secret() || word.secret()
}

// nameBuffer holds a name in lower case without separators.
type nameBuffer struct {
	buf   [24]byte // longer than any word of the list
	n     int
	ended bool // a separator has followed
}

func (b *nameBuffer) add(c byte) {
	if b.n < len(b.buf) {
		b.buf[b.n] = c
	}
	b.n++
}

func (b *nameBuffer) secret() bool { return b.n <= len(b.buf) && secretWord(b.buf[:b.n]) }

// secretWord looks in the list of the manual.
func secretWord(word []byte) bool {
	if len(word) == 0 || secretLengths[word[0]]&(1<<len(word)) == 0 {
		return false // most words end here
	}
	_, ok := secretWords[string(word)] // no allocation: the compiler knows this form
	return ok
}

// secretLengths holds the lengths of the words that begin with a letter, a bit for each.
var secretLengths = buildSecretLengths()

func buildSecretLengths() (t [256]uint32) {
	for word := range secretWords {
		t[word[0]] |= 1 << len(word)
	}
	return t
}

// SecretWords are the names, and last words of names, that mean a secret.
func SecretWords() map[string]struct{} { return maps.Clone(secretWords) }

var secretWords = map[string]struct{}{
	"token": {}, "accesstoken": {}, "refreshtoken": {}, "idtoken": {}, "authtoken": {}, "csrftoken": {}, "sessiontoken": {}, "securitytoken": {},
	"password": {}, "passwd": {}, "pass": {}, "passphrase": {}, "pwd": {}, "pin": {}, "otp": {},
	"secret": {}, "clientsecret": {}, "sharedsecret": {},
	"key": {}, "apikey": {}, "accesskey": {}, "secretkey": {}, "privatekey": {}, "authkey": {},
	"signature": {}, "sig": {}, "hmac": {}, "jwt": {}, "assertion": {}, "samlresponse": {},
	"auth": {}, "authorization": {}, "credential": {}, "credentials": {}, "bearer": {},
	"code": {}, "session": {}, "sessionid": {}, "sid": {}, "jsessionid": {}, "phpsessid": {}, "cookie": {},
}

func unhex(b byte) int {
	switch {
	case '0' <= b && b <= '9':
		return int(b - '0')
	case 'a' <= b && b <= 'f':
		return int(b-'a') + 10
	case 'A' <= b && b <= 'F':
		return int(b-'A') + 10
	}
	return -1
}
