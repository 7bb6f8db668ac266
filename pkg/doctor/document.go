package doctor

import (
	"context"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ssm"

	"github.com/ami-factory/ami-factory/pkg/awserr"
	"github.com/ami-factory/ami-factory/pkg/contract"
	"github.com/ami-factory/ami-factory/pkg/guest"
)

type documentAPI interface {
	DescribeDocument(context.Context, *ssm.DescribeDocumentInput, ...func(*ssm.Options)) (*ssm.DescribeDocumentOutput, error)
}

func checkScriptDocument(ctx context.Context, e *examination) []Finding {
	return []Finding{judgeScriptDocument(ctx, e.aws.ssm())}
}

// judgeScriptDocument compares the document that runs the factory's scripts with this
// program's. Builds use its default version.
func judgeScriptDocument(ctx context.Context, api documentAPI) Finding {
	const (
		looked = "document " + contract.ScriptDocument
		follow = "every build fails with DocumentChanged"
	)
	out, err := api.DescribeDocument(ctx, &ssm.DescribeDocumentInput{Name: aws.String(contract.ScriptDocument)})
	switch {
	case awserr.Is(err, "InvalidDocument"):
		return problem(looked, redeploy, "it does not exist: %s", follow)
	case err != nil:
		return unread(looked, err)
	}
	d, want := out.Document, guest.DocumentHash()
	if got := aws.ToString(d.Hash); got != want {
		return problem(looked, "find out in CloudTrail who called UpdateDocument or UpdateDocumentDefaultVersion, then "+redeploy,
			"its default version %s has the %s %s, and this program's document has the Sha256 %s: %s, unless the factory is of another version", aws.ToString(d.DefaultVersion), d.HashType, got, want, follow)
	}
	if d.LatestVersion != nil && aws.ToString(d.LatestVersion) != aws.ToString(d.DefaultVersion) {
		return warning(looked, "find out in CloudTrail who called UpdateDocument, then aws ssm delete-document --name "+contract.ScriptDocument+" --document-version "+aws.ToString(d.LatestVersion),
			"somebody has added version %s, which nothing runs: commands use the default version %s, whose hash is right", aws.ToString(d.LatestVersion), aws.ToString(d.DefaultVersion))
	}
	return fine(looked, "version %s has the hash that the factory's commands require", aws.ToString(d.DefaultVersion))
}
