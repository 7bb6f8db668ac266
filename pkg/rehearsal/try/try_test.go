package try

import (
	"encoding/base64"
	"encoding/json"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	ec2api "github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ami-factory/ami-factory/pkg/plaintext"
)

// hostile clears the screen, renames the window and swaps what is read.
const hostile = "\x1b[2J\x1b]0;root\x07gone \u202egnp.sh"

// TestWhatAGuestSaysOfItsBootActsOnNoTerminal: the parts of a result are shown by
// `userdata try`, and JSON of the guest carries control characters escaped.
func TestWhatAGuestSaysOfItsBootActsOnNoTerminal(t *testing.T) {
	said := map[string]any{
		"BootID": "b", "Finished": true, "Startup": hostile, "MachineID": hostile, "HostKeys": []string{hostile},
		"Stages":   []any{map[string]any{"Name": hostile, "Errors": []string{hostile}}},
		"UserData": map[string]any{"Status": "failed", "Steps": []any{map[string]any{"Name": hostile, "Status": "failed", "Command": hostile, "Message": hostile, "Exit": 7}}},
		"Boot":     map[string]any{"status": hostile, "services": []any{map[string]any{"unit": hostile, "state": hostile, "message": hostile}}},
		"Agents":   map[string]any{hostile: map[string]any{"state": "failed", "reason": hostile}}, "FailedUnits": map[string]any{hostile: hostile},
	}
	raw, err := json.Marshal(said)
	require.NoError(t, err)
	found, err := readCollected(plaintext.Clean(string(raw)) + "\n") // as guest.Poll hands it on
	require.NoError(t, err)
	var result Result
	result.add(found)
	require.Len(t, result.Problems, 6, "two of the stage, and one each of the step, the service, the agent and the unit")
	shown := append([]string{result.Startup, result.MachineID, result.Boot.Status, result.Boot.Services[0].Unit}, result.Problems...)
	shown = append(shown, result.HostKeys...)
	for _, s := range result.Steps {
		shown = append(shown, s.Name, s.Status, s.Detail)
	}
	for name, agent := range result.Agents {
		shown = append(shown, name, agent.Reason)
	}
	for unit, words := range result.FailedUnits {
		shown = append(shown, unit, words)
	}
	for _, text := range shown {
		assert.Equal(t, plaintext.Clean(text), text)
	}
	assert.Contains(t, result.Startup, "<U+001B>[2J", "what was there is named")

	_, err = readCollected("[1")
	assert.ErrorContains(t, err, "no JSON of collect.py")
}

func TestAConsoleActsOnNoTerminal(t *testing.T) {
	output := base64.StdEncoding.EncodeToString([]byte("\x1b[32mok\x1b[0m boot\r\n" + hostile))
	text := consoleText(&ec2api.GetConsoleOutputOutput{Output: aws.String(output)})
	assert.Equal(t, "ok boot\n<U+001B>[2J<U+001B>]0;root<U+0007>gone <U+202E>gnp.sh", text)
}
