package unstale_test

import (
	"os"
	"regexp"
	"strings"
	"testing"
)

// unindented is text without the white space at the beginning of lines.
func unindented(text string) string {
	return regexp.MustCompile(`(?m)^[ \t]+`).ReplaceAllString(text, "")
}

func TestTheGuidesCodeIsTheExamplesCode(t *testing.T) {
	guide, err := os.ReadFile("../../docs/go.md")
	if err != nil {
		t.Fatal(err)
	}
	examples, err := os.ReadFile("example_test.go")
	if err != nil {
		t.Fatal(err)
	}
	blocks := regexp.MustCompile("(?s)```go\n(.*?)```").FindAllSubmatch(guide, -1)
	if len(blocks) < 4 {
		t.Fatalf("%d blocks of Go in the guide", len(blocks))
	}
	for _, block := range blocks {
		if !strings.Contains(unindented(string(examples)), unindented(string(block[1]))) {
			t.Errorf("not in example_test.go:\n%s", block[1])
		}
	}
}
