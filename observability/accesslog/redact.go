package accesslog

import "bytes"

// redacted stands for a secret value.
const redacted = "[redacted]"

// appendTarget appends a path with its query, the values of secret parameters
// replaced. Parameters are looked for after '?', '&' and ';', the last of which also
// starts parameters of a path segment. A secret value in a query ends at '&' only,
// since many servers take ';' and '?' for part of it.
func appendTarget(dst, target []byte, limit int) []byte {
	target, cut := clip(target, limit)
	inQuery := false
	for {
		i := bytes.IndexAny(target, "?&;")
		if i < 0 {
			break
		}
		inQuery = inQuery || target[i] == '?'
		dst = appendEscaped(dst, target[:i+1])
		target = target[i+1:]
		n := bytes.IndexAny(target, "=?&;")
		if n < 0 || target[n] != '=' || !secretName(target[:n]) {
			continue
		}
		dst = appendEscaped(dst, target[:n+1])
		dst = append(dst, redacted...)
		ends := "/?;"
		if inQuery {
			ends = "&"
		}
		target = target[n+1:]
		if i = bytes.IndexAny(target, ends); i < 0 {
			i = len(target)
		}
		target = target[i:]
	}
	dst = appendEscaped(dst, target)
	if cut {
		dst = append(dst, ellipsis...)
	}
	return dst
}

// appendAuthority appends the authority without the user information that RFC 9110
// section 4.2.4 forbids and some clients send all the same.
func appendAuthority(dst, authority []byte, limit int) []byte {
	if i := bytes.LastIndexByte(authority, '@'); i >= 0 {
		dst = append(dst, redacted...)
		authority = authority[i:]
	}
	return appendClipped(dst, authority, limit)
}

// secretName reports whether a parameter of this name holds a secret: the name as a
// whole, or its last word, is in the list of secretWord, whatever its case, its
// separators and its percent-encoding.
func secretName(name []byte) bool {
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
	_, ok := secretWords[string(word)] // no allocation: the compiler knows this form
	return ok
}

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
