package wire

import (
	"bytes"
	"encoding/xml"
	"fmt"
	"mime"
	"net/url"
	"reflect"
	"strconv"
	"strings"
)

// queryCodec is the query protocol of STS, SNS, IAM and CloudFormation or, with ec2 set,
// EC2's variant of it.
type queryCodec struct{ ec2 bool }

func (c queryCodec) operation(in *call) (string, error) {
	form, err := in.parseForm()
	if err != nil {
		return "", Errorf("MalformedQueryString", "the request's parameters cannot be read: %v", err)
	}
	action := form.Get("Action")
	if action == "" {
		return "", Errorf("MissingAction", "The request is missing an action or a required parameter.")
	}
	return action, nil
}

// parseForm returns the parameters of the body, or of the URL for a GET.
func (in *call) parseForm() (url.Values, error) {
	if in.form != nil {
		return in.form, nil
	}
	raw := in.request.URL.RawQuery
	contentType, _, _ := mime.ParseMediaType(in.request.Header.Get("Content-Type"))
	if len(in.body) > 0 && (contentType == "" || contentType == "application/x-www-form-urlencoded") {
		raw = string(in.body)
	}
	form, err := url.ParseQuery(raw)
	if err != nil {
		return nil, fmt.Errorf("parse the query: %w", err)
	}
	in.form = form
	return form, nil
}

func (c queryCodec) decoder(in *call) func(any) error {
	return func(input any) error {
		target, err := decodeTarget(input)
		if err != nil {
			return err
		}
		form, err := in.parseForm()
		if err != nil {
			return Errorf("MalformedQueryString", "the request's parameters cannot be read: %v", err)
		}
		root := &formNode{}
		for name, values := range form {
			if len(values) > 0 {
				root.add(strings.Split(name, "."), values[0])
			}
		}
		if err := c.fill(target, root, ""); err != nil {
			code := "MalformedInput"
			if c.ec2 {
				code = "InvalidParameterValue"
			}
			return Errorf(code, "%v", err)
		}
		return nil
	}
}

func (c queryCodec) contentType(*call) string { return "text/xml;charset=UTF-8" }

func (c queryCodec) encode(in *call, output reflect.Value) ([]byte, error) {
	var b bytes.Buffer
	b.WriteString(xml.Header)
	if c.ec2 {
		fmt.Fprintf(&b, `<%sResponse xmlns="http://ec2.amazonaws.com/doc/%s/"><requestId>%s</requestId>`, in.operation, in.service.Version, in.id)
	} else {
		fmt.Fprintf(&b, `<%sResponse xmlns="%s"><%sResult>`, in.operation, in.namespace(), in.operation)
	}
	if err := c.writeMembers(&b, in, output, true); err != nil {
		return nil, err
	}
	if !c.ec2 {
		fmt.Fprintf(&b, `</%sResult><ResponseMetadata><RequestId>%s</RequestId></ResponseMetadata>`, in.operation, in.id)
	}
	fmt.Fprintf(&b, `</%sResponse>`, in.operation)
	return b.Bytes(), nil
}

func (c queryCodec) encodeError(in *call, e apiError) []byte {
	var b bytes.Buffer
	b.WriteString(xml.Header)
	if c.ec2 {
		b.WriteString("<Response><Errors><Error>")
	} else {
		side := "Sender"
		if e.serverFault() {
			side = "Receiver"
		}
		fmt.Fprintf(&b, `<ErrorResponse xmlns="%s"><Error><Type>%s</Type>`, in.namespace(), side)
	}
	writeElement(&b, "Code", e.code)
	writeElement(&b, "Message", e.message)
	if c.ec2 {
		fmt.Fprintf(&b, "</Error></Errors><RequestID>%s</RequestID></Response>", in.id)
	} else {
		fmt.Fprintf(&b, "</Error><RequestId>%s</RequestId></ErrorResponse>", in.id)
	}
	return b.Bytes()
}

func (in *call) namespace() string {
	return fmt.Sprintf("https://%s.amazonaws.com/doc/%s/", in.service.ID, in.service.Version)
}

// writeElement writes a text element. Characters that XML does not allow are replaced.
func writeElement(b *bytes.Buffer, name, text string) {
	fmt.Fprintf(b, "<%s>", name)
	_ = xml.EscapeText(b, []byte(text)) // a bytes.Buffer does not fail
	fmt.Fprintf(b, "</%s>", name)
}

// formNode is one step of a parameter's dotted name.
type formNode struct {
	text     string
	children map[string]*formNode
}

func (n *formNode) add(path []string, text string) {
	if len(path) == 0 {
		n.text = text
		return
	}
	if n.children == nil {
		n.children = make(map[string]*formNode)
	}
	child, ok := n.children[path[0]]
	if !ok {
		child = &formNode{}
		n.children[path[0]] = child
	}
	child.add(path[1:], text)
}

// child finds a member, first by its exact name and then without regard to case, because
// the SDK capitalises the few members whose name on the wire begins with a small letter.
func (n *formNode) child(name string) *formNode {
	if child, ok := n.children[name]; ok {
		return child
	}
	for candidate, child := range n.children {
		if strings.EqualFold(candidate, name) {
			return child
		}
	}
	return nil
}

// elements returns the numbered children in the order of their numbers. Like AWS, it
// ignores gaps.
func (n *formNode) elements() ([]*formNode, error) {
	byNumber := make(map[int]*formNode, len(n.children))
	highest := 0
	for name, child := range n.children {
		number, err := strconv.Atoi(name)
		if err != nil || number < 0 || number > maxListIndex {
			return nil, fmt.Errorf("%q is not an index of a list", name)
		}
		byNumber[number] = child
		highest = max(highest, number)
	}
	list := make([]*formNode, 0, len(byNumber))
	for number := range highest + 1 {
		if child, ok := byNumber[number]; ok {
			list = append(list, child)
		}
	}
	return list, nil
}

// maxListIndex limits the memory and time that a forged index can cost.
const maxListIndex = 100_000
