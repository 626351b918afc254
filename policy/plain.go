package policy

// Plain says what happened to those who are not to learn the reason: as much as the HTTP
// status tells anyway.
func (i *ReasonInfo) Plain() string {
	switch i.Status {
	case 400:
		return "the request cannot be understood"
	case 403:
		return "the request is not allowed"
	case 404:
		return "there is nothing here"
	case 405:
		return "the method is not allowed here"
	case 408:
		return "the request took too long"
	case 414:
		return "the request's target is too long"
	case 429:
		return "there are too many requests"
	case 431:
		return "the request's header section is too large"
	case 502, 503:
		return "the service is not available"
	case 504:
		return "the service took too long"
	}
	return "something went wrong"
}
