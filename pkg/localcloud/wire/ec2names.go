package wire

//go:generate node internal/ec2names/generate.mjs

// ec2Name holds the names on the wire of a member of an EC2 shape, where they do not
// follow from the member's name: for the SDK's BlockDeviceMappings, a request has
// BlockDeviceMapping.1 and a response <blockDeviceMapping><item>. An empty field means
// the default.
type ec2Name struct {
	request  string // default: the member's name
	response string // default: the member's name with a small first letter
	item     string // name of a list's elements in a response; default: item
}

func ec2RequestName(shape, member string) string {
	if name := ec2Names[shape+"."+member].request; name != "" {
		return name
	}
	return member
}

func ec2ResponseName(shape, member string) (name, item string) {
	names := ec2Names[shape+"."+member]
	name, item = names.response, names.item
	if name == "" {
		name = lowerFirst(member)
	}
	if item == "" {
		item = "item"
	}
	return name, item
}
