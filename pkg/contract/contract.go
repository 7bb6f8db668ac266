// Package contract holds the words that two sides of the factory share, so that
// each is written once: what a stage writes and a policy allows, what a machine
// assigns and a report shows, what a deployment sets and a function reads. It
// imports nothing of the factory and holds no logic.
package contract
