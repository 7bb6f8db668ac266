// Package authz decides who may do what in the embedded AWS. It evaluates policies as
// IAM does, and asks each service which permissions a call needs. A policy element that
// it does not support is an error and is never ignored.
package authz
