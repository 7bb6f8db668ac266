// Package asl reads and runs state machines in the Amazon States Language with
// JSONata as the query language, like AWS Step Functions. It does not contain
// the service's API, and a Host performs the tasks.
//
// Tests compare it with recordings of AWS (states/testdata/recorded). Three
// things differ. The answers of services have no SdkHttpMetadata. Map states
// support ToleratedFailureCount and ToleratedFailurePercentage in inline mode
// too. The JSONata engine has version 1.5.4, adapted to the 2.0.6 of AWS (see
// Expression), but an object constructor mapped over bare values, [1,2].{"v":
// $}, yields {"v": [1]}.
package asl
