package ec2

import (
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"github.com/ami-factory/ami-factory/pkg/localcloud/internal/scope"
	"github.com/ami-factory/ami-factory/pkg/localcloud/vm"
)

// state is everything that Snapshot saves. Records embed the SDK's type in the
// form that describes show; fields that depend on the viewer are set in each
// answer.
type state struct {
	Images       map[imageKey]*image        `json:"images"`
	Snapshots    map[string]*snapshot       `json:"snapshots"`
	Instances    map[string]*instance       `json:"instances"`
	Volumes      map[string]*volume         `json:"volumes"`
	Tokens       map[string]token           `json:"tokens"`
	PublicAccess map[scope.Key]string       `json:"publicAccess"` // block-public-access state of images, if it was set
	Networks     map[scope.Key]madeNetworks `json:"networks"`

	KeyPairs map[scope.Key]map[string]keyPair `json:"keyPairs"` // by name

	Reach    map[scope.Key]*reachability    `json:"reach"`
	Settings map[scope.Key]*accountSettings `json:"settings"`

	Templates map[string]*launchTemplate `json:"templates"` // by id
}

func newState() state {
	return state{
		Images:       map[imageKey]*image{},
		Snapshots:    map[string]*snapshot{},
		Instances:    map[string]*instance{},
		Volumes:      map[string]*volume{},
		Tokens:       map[string]token{},
		PublicAccess: map[scope.Key]string{},
		Networks:     map[scope.Key]madeNetworks{},
		KeyPairs:     map[scope.Key]map[string]keyPair{},
		Reach:        map[scope.Key]*reachability{},
		Settings:     map[scope.Key]*accountSettings{},
		Templates:    map[string]*launchTemplate{},
	}
}

// token remembers a call with a client token.
type token struct {
	Digest string `json:"digest"` // of its parameters
	Result string `json:"result"` // id of the created resource
}

type image struct {
	types.Image
	Region        string
	Visible       time.Time // time from which describes show it
	Permissions   []types.LaunchPermission
	LastLaunched  *time.Time
	CooldownUntil *time.Time // of deregistration protection
}

// imageKey identifies an image: an id is unique within a region.
type imageKey struct{ Region, ID string }

type snapshot struct {
	types.Snapshot
	Region      string
	Visible     time.Time
	ManagedKey  bool   // encrypted with an AWS-managed key
	ImageDir    string // its data, shared with its copies
	External    bool   // ImageDir belongs to a base image and must not be removed
	Info        vm.ImageInfo
	Users       []string // accounts that may create volumes from it, sorted
	SharedToAll bool
}

type instance struct {
	types.Instance
	Account           string
	Region            string
	Visible           time.Time
	ReservationID     string
	UserData          []byte
	Shutdown          types.ShutdownBehavior // instance-initiated
	TerminationLocked bool                   // DisableApiTermination
	StopLocked        bool                   // DisableApiStop
	Profile           InstanceProfile
	SSHKey            string // of the key pair of its launch
	Public            bool   // a public address was requested
	MAC               string
	ImageDir          string
	VolumeID          string
	VolumeGiB         int
	HasRun            bool
	Terminated        time.Time
	LastConsole       []byte // of an ended machine

	machine  vm.Machine
	reached  bool          // the guest has answered since the last start
	stopDone chan struct{} // closed when a running StopInstances has finished; nil if none runs
	captures int           // number of CreateImage calls that use its disk, plus one if its guest is spared
	spared   bool          // it is terminated, but its guest still runs
	captured chan struct{} // closed when captures falls to 0
}

type volume struct {
	types.Volume
	Account string
	Region  string
	Visible time.Time
}

func (i *instance) realm() scope.Key { return scope.Key{Account: i.Account, Region: i.Region} }

// live reports whether the instance still needs its disk.
func (i *instance) live() bool { return i.State.Name != types.InstanceStateNameTerminated }

// rootSnapshot returns the id of the image's root snapshot.
func (im *image) rootSnapshot() string {
	for _, m := range im.BlockDeviceMappings {
		if m.Ebs != nil && m.Ebs.SnapshotId != nil {
			return *m.Ebs.SnapshotId
		}
	}
	return ""
}

// stateCodes are the codes of instance states in the API reference of
// InstanceState.
var stateCodes = map[types.InstanceStateName]int32{
	types.InstanceStateNamePending:      0,
	types.InstanceStateNameRunning:      16,
	types.InstanceStateNameShuttingDown: 32,
	types.InstanceStateNameTerminated:   48,
	types.InstanceStateNameStopping:     64,
	types.InstanceStateNameStopped:      80,
}

func instanceState(name types.InstanceStateName) *types.InstanceState {
	return &types.InstanceState{Name: name, Code: aws.Int32(stateCodes[name])}
}

// serverFault returns the StateReason of an error in the service.
func serverFault(message string) *types.StateReason {
	return &types.StateReason{Code: aws.String("Server.InternalError"), Message: aws.String("Server.InternalError: " + message)}
}

// ec2Time formats a time that the API carries as text.
func ec2Time(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05.000Z") }
