// Package asl reads and runs state machines in the Amazon States Language with
// JSONata as query language, as AWS Step Functions does. It knows neither the
// service's API nor how a task is performed: that is its Host.
//
// Recordings of AWS test what it answers (states/testdata/recorded). Three things
// differ. The answers of services have no SdkHttpMetadata. Map states honour
// ToleratedFailureCount and ToleratedFailurePercentage in inline mode too. And the
// JSONata engine is of version 1.5.4, brought nearer to the 2.0.6 of AWS (see
// Expression): an object constructor mapped over bare values, [1,2].{"v": $},
// still yields {"v": [1]}.
package asl
