// Package texts reads members of AWS's JSON that are one text or several.
package texts

import (
	"encoding/json"
	"errors"
)

// List is one text or a list of them.
type List []string

// UnmarshalJSON implements json.Unmarshaler.
func (l *List) UnmarshalJSON(raw []byte) error {
	var one string
	if json.Unmarshal(raw, &one) == nil {
		*l = List{one}
		return nil
	}
	var several []string
	if err := json.Unmarshal(raw, &several); err != nil {
		return errors.New("a text or a list of texts is expected")
	}
	*l = several
	return nil
}
