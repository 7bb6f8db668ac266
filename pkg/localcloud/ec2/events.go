package ec2

import (
	"encoding/json"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"github.com/ami-factory/ami-factory/pkg/localcloud/internal/scope"
	"github.com/ami-factory/ami-factory/pkg/partition"
)

// setInstanceState changes the state of an instance and queues its event. The
// caller holds s.mu.
func (s *Service) setInstanceState(i *instance, to types.InstanceStateName) {
	if i.State != nil && i.State.Name == to {
		return
	}
	i.State = instanceState(to)
	s.queueEvent(i.realm(), "EC2 Instance State-change Notification",
		partition.ARN("ec2", i.Region, i.Account, "instance/"+*i.InstanceId),
		map[string]string{"instance-id": *i.InstanceId, "state": string(to)})
}

// queueImageEvent queues the event of an image's new state: available, failed,
// deregistered or disabled. The error message is empty unless it failed
// (https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/monitor-ami-events.html).
func (s *Service) queueImageEvent(im *image, state, trouble string) {
	detail := map[string]string{"RequestId": requestID(), "ImageId": *im.ImageId, "State": state, "ErrorMessage": trouble}
	s.queueEvent(scope.Key{Account: aws.ToString(im.OwnerId), Region: im.Region}, "EC2 AMI State Change",
		partition.ARN("ec2", im.Region, "", "image/"+*im.ImageId), detail)
}

func (s *Service) queueEvent(realm scope.Key, detailType, resource string, detail map[string]string) {
	raw, err := json.Marshal(detail)
	if err != nil {
		s.cfg.Logger.Error("encode event", "type", detailType, "error", err)
		return
	}
	s.queue = append(s.queue, Event{Source: "aws.ec2", DetailType: detailType, Account: realm.Account, Region: realm.Region,
		Time: s.cfg.Clock.Now(), Resources: []string{resource}, Detail: raw})
}

// requestID returns an id for the internal request that finished an asynchronous
// call.
func requestID() string {
	h := scope.Hex(32)
	return h[:8] + "-" + h[8:12] + "-" + h[12:16] + "-" + h[16:20] + "-" + h[20:]
}
