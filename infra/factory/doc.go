// Package factory holds the factory as constructs of the CDK: AmiFactory for any
// stack of any app, and a stack that holds it alone. What an operator chooses is
// plain data, from the app's context or from code. Every file is one construct.
package factory
