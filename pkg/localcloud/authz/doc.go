// Package authz decides who may do what in the embedded AWS: it holds policies
// and evaluates them as IAM does, and it asks the rules of each service which
// permissions a call takes. A policy element that it does not know is an error and
// is never ignored.
package authz
