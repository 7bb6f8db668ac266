package contract

// ScriptDocument is the name of the factory's own Systems Manager document, which runs
// its scripts in instances. It is the only document that the factory sends.
const ScriptDocument = "ami-factory-run-script"

// ScriptDocumentContent is the content of ScriptDocument, a Command document of schema
// version 2.2 whose parameters are those of AWS-RunShellScript without workingDirectory
// (https://docs.aws.amazon.com/systems-manager/latest/userguide/documents-schemas-features.html).
// Deployments store exactly these bytes, and commands name their SHA-256: JSON without
// spaces and with sorted keys has the same bytes when something on the way reads and
// writes it.
const ScriptDocumentContent = `{"description":"Runs a script of the AMI factory as root. The factory sends commands with the hash of this content, so a change makes every build fail.",` +
	`"mainSteps":[{"action":"aws:runShellScript","inputs":{"runCommand":"{{ commands }}","timeoutSeconds":"{{ executionTimeout }}"},"name":"runScript",` +
	`"precondition":{"StringEquals":["platformType","Linux"]}}],` +
	`"parameters":{"commands":{"description":"The script.","type":"StringList"},` +
	`"executionTimeout":{"allowedPattern":"^([1-9][0-9]{0,4}|1[0-6][0-9]{4}|17[0-1][0-9]{3}|172[0-7][0-9]{2}|172800)$",` +
	`"description":"The time after which the script is ended, in seconds.","type":"String"}},` +
	`"schemaVersion":"2.2"}`
