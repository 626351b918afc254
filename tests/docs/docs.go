// Package docs holds the root documents to the truth: that configurations in them
// load, commands exist and links lead somewhere. The manual's pages are held by
// the packages that they describe. It must not know what the documents say
// beyond that.
package docs
