package wire

var ec2Names = map[string]ec2Name{}
