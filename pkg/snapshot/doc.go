// Package snapshot reads a disk from outside, without running anything on it,
// and checks the files on it against rules. A disk is an io.ReaderAt: the blocks
// of an EBS snapshot, a file, or memory.
//
// The disk is hostile until proven otherwise. Whatever this package does not
// understand completely is an error and never a pass: it knows GPT and MBR
// partition tables, ext4 and xfs of version 5, and refuses features, structures
// and states that could make a kernel see other files than it sees. It reads
// directories block by block, because an index can hide what a kernel that
// ignores the index finds. Everything it reads counts against Limits.
//
// On-disk formats: the kernel's Documentation/filesystems/ext4, "XFS Algorithms &
// Data Structures" (xfs.org), and chapter 5 of the UEFI specification 2.10.
package snapshot
