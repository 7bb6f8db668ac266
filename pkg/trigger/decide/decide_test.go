package decide_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"

	"github.com/ami-factory/ami-factory/pkg/recipe"
	"github.com/ami-factory/ami-factory/pkg/trigger/decide"
)

const day = 24 * time.Hour

func TestWhatIsDoneAboutARecipe(t *testing.T) {
	limits := decide.Limits{MaxRunning: 2, MaxFailures: 3, MaxAge: 30 * day, FindingLimit: day}
	again := &decide.Again{ImageID: "ami-1", ReleaseID: "r"}
	open := &decide.Open{ImageID: "ami-1", Vulnerabilities: []string{"CVE-1"}}
	stale := decide.Situation{Recipe: "a", Name: "a-0123-20261124", Same: "a-0123"}
	with := func(change func(*decide.Situation)) decide.Situation {
		s := stale
		change(&s)
		return s
	}
	for sentence, tc := range map[string]struct {
		in   decide.Situation
		want decide.Action
		why  string
		more bool // forced
	}{
		"a stale recipe builds": {stale, decide.Start, "not what would be built now", false},
		"one whose image is up to date does not": {
			with(func(s *decide.Situation) { s.UpToDate = true }), decide.Skip, "up to date", false,
		},
		"a night builds an old image again": {
			with(func(s *decide.Situation) { s.UpToDate, s.Nightly, s.Age = true, true, 30*day }), decide.Start, "30 days old", true,
		},
		"a night leaves a younger one": {
			with(func(s *decide.Situation) { s.UpToDate, s.Nightly, s.Age = true, true, 30*day-1 }), decide.Skip, "up to date", false,
		},
		"a changed source does not look at the age": {
			with(func(s *decide.Situation) { s.UpToDate, s.Age = true, 300*day }), decide.Skip, "up to date", false,
		},
		"a paused recipe does not build": {
			with(func(s *decide.Situation) { s.Record = decide.Record{Paused: true, Failures: 3} }), decide.Skip, "ami-factory resume a", false,
		},
		"a build of the very same absorbs": {
			with(func(s *decide.Situation) { s.Running = []decide.Running{{Recipe: "a", Name: "a-0123", Own: true}} }), decide.Skip, "a-0123 builds it", false,
		},
		"so does one of another trigger": {
			with(func(s *decide.Situation) {
				s.Running = []decide.Running{{Recipe: "a", Name: "a-0123-20261123", Own: true}}
			}), decide.Skip, "builds it", false,
		},
		"a build of something else is followed by one more": {
			with(func(s *decide.Situation) { s.Running = []decide.Running{{Recipe: "a", Name: "a-9999", Own: true}} }), decide.Wait, "a-9999", false,
		},
		"another recipe's build is not in the way": {
			with(func(s *decide.Situation) { s.Running = []decide.Running{{Recipe: "b", Name: "a-0123", Own: true}} }), decide.Start, "", false,
		},
		"beyond the limit a build waits": {
			with(func(s *decide.Situation) {
				s.Running = []decide.Running{{Recipe: "b", Own: true}, {Recipe: "c", Own: true}}
			}), decide.Wait, "2 executions of triggers run", false,
		},
		"what others started does not fill the limit": {
			with(func(s *decide.Situation) { s.Running = []decide.Running{{Recipe: "b"}, {Recipe: "c"}, {Recipe: "d"}} }), decide.Start, "", false,
		},
		"a build of the same recipe by hand is waited for, whatever its name": {
			with(func(s *decide.Situation) { s.Running = []decide.Running{{Recipe: "a", Name: "a-0123"}} }), decide.Wait, "a-0123 builds the recipe from something else", false,
		},
		"one by hand that only waits is passed over": {
			with(func(s *decide.Situation) { s.Running = []decide.Running{{Recipe: "a", Name: "a-0123", Idle: true}} }), decide.Start, "", false,
		},
		"one of a trigger that waits absorbs": {
			with(func(s *decide.Situation) {
				s.Running = []decide.Running{{Recipe: "a", Name: "a-0123", Own: true, Idle: true}}
			}), decide.Skip, "a-0123 builds it", false,
		},
		"one that has asked people absorbs the same build": {
			with(func(s *decide.Situation) {
				s.Running = []decide.Running{{Recipe: "a", Name: s.Same, Own: true, Asked: true}}
			}), decide.Skip, "builds it", false,
		},
		"one that has asked people holds back no build from something else": {
			with(func(s *decide.Situation) {
				s.Running = []decide.Running{{Recipe: "a", Name: "a-other", Own: true, Asked: true}}
			}), decide.Start, "", false,
		},
		"those that have asked people do not count against the limit": {
			with(func(s *decide.Situation) {
				for _, recipe := range []string{"b", "c", "d", "e"} {
					s.Running = append(s.Running, decide.Running{Recipe: recipe, Name: recipe + "-1", Own: true, Asked: true})
				}
			}), decide.Start, "", false,
		},
		"an image whose release changed is released again": {
			with(func(s *decide.Situation) { s.Again = again }), decide.Start, "ami-1 has the content of the recipe", false,
		},
		"a release that the gate rejected is not tried again": {
			with(func(s *decide.Situation) { s.Again, s.Record.Rejected = again, again }), decide.Skip, "ami-factory build a --force", false,
		},
		"nor in a night while the image is young": {
			with(func(s *decide.Situation) { s.Again, s.Record.Rejected, s.Nightly = again, again, true }), decide.Skip, "the gate rejected", false,
		},
		"another release of the image is tried": {
			with(func(s *decide.Situation) {
				s.Again, s.Record.Rejected = again, &decide.Again{ImageID: "ami-1", ReleaseID: "other"}
			}), decide.Start, "", false,
		},
		"so is the same release of another image": {
			with(func(s *decide.Situation) {
				s.Again, s.Record.Rejected = again, &decide.Again{ImageID: "ami-0", ReleaseID: "r"}
			}), decide.Start, "", false,
		},
		"other content is baked after a rejected release": {
			with(func(s *decide.Situation) { s.Record.Rejected = again }), decide.Start, "not what would be built now", false,
		},
		"a night bakes an old image whose release was rejected": {
			with(func(s *decide.Situation) {
				s.Again, s.Record.Rejected, s.Nightly, s.Age = again, again, true, 30*day
			}), decide.Start, "30 days old", true,
		},
		"findings bake an image whose release was rejected": {
			with(func(s *decide.Situation) {
				s.Again, s.Record, s.Flawed, s.Now = again, decide.Record{Rejected: again, Finding: open}, true, time.Unix(1, 0)
			}), decide.Start, "CVE-1", true,
		},
		"they wait there for their limit too": {
			with(func(s *decide.Situation) {
				s.Again, s.Record, s.Flawed, s.Now = again, decide.Record{Rejected: again, Finding: open, Rebuilt: time.Unix(0, 0)}, true, time.Unix(1, 0)
			}), decide.Wait, "is not built for others before", false,
		},
		"one bake serves a changed release and open findings": {
			with(func(s *decide.Situation) {
				s.Again, s.Record, s.Flawed, s.Now = again, decide.Record{Finding: open}, true, time.Unix(1, 0)
			}), decide.Start, "CVE-1", true,
		},
		"a changed release does not wait for the limit of findings": {
			with(func(s *decide.Situation) {
				s.Again, s.Record, s.Flawed, s.Now = again, decide.Record{Finding: open, Rebuilt: time.Unix(0, 0)}, true, time.Unix(1, 0)
			}), decide.Start, "to be released otherwise", false,
		},
	} {
		t.Run(sentence, func(t *testing.T) {
			d := decide.Decide(tc.in, limits)
			assert.Equal(t, tc.want, d.Action, d.Why)
			assert.Contains(t, d.Why, tc.why)
			assert.Equal(t, tc.more, d.Force)
		})
	}
}

func TestARecipeIsPausedAfterFailuresInARow(t *testing.T) {
	limits := decide.Limits{MaxFailures: 2}
	again := &decide.Again{ImageID: "ami-1", ReleaseID: "r"}
	failed := func(arn string) decide.End { return decide.End{Execution: arn, Failed: true} }
	for sentence, tc := range map[string]struct {
		ends  []decide.End
		want  decide.Record
		pause []bool
	}{
		"two failures pause":            {[]decide.End{failed("1"), failed("2")}, decide.Record{Failures: 2, Paused: true, Ended: "2"}, []bool{false, true}},
		"reported twice, one counts":    {[]decide.End{failed("1"), failed("1")}, decide.Record{Failures: 1, Ended: "1"}, []bool{false, false}},
		"a third does not pause again":  {[]decide.End{failed("1"), failed("2"), failed("3")}, decide.Record{Failures: 3, Paused: true, Ended: "3"}, []bool{false, true, false}},
		"a success in between":          {[]decide.End{failed("1"), {Execution: "2", Succeeded: true}, failed("3")}, decide.Record{Failures: 1, Ended: "3"}, []bool{false, false, false}},
		"stopped by hand is no failure": {[]decide.End{failed("1"), {Execution: "2"}}, decide.Record{Failures: 1, Ended: "2"}, []bool{false, false}},
		"a source given by hand is not the recipe's fault": {
			[]decide.End{failed("1"), {Execution: "2", Failed: true, ByHand: true}}, decide.Record{Failures: 1, Ended: "2"}, []bool{false, false},
		},
		"a rejected release is no failure, and is remembered": {
			[]decide.End{failed("1"), {Execution: "2", Failed: true, Rejected: again}}, decide.Record{Failures: 1, Ended: "2", Rejected: again}, []bool{false, false},
		},
		"a success by hand ends the pause": {
			[]decide.End{failed("1"), failed("2"), {Execution: "3", Succeeded: true}}, decide.Record{Ended: "3"}, []bool{false, true, false},
		},
	} {
		t.Run(sentence, func(t *testing.T) {
			var r decide.Record
			var pauses []bool
			for _, e := range tc.ends {
				var p bool
				r, p = r.After(e, limits)
				pauses = append(pauses, p)
			}
			assert.Equal(t, tc.want, r)
			assert.Equal(t, tc.pause, pauses)
			assert.Zero(t, r.Resumed().Failures)
			assert.False(t, r.Resumed().Paused)
		})
	}
}

func TestRecipesOfAParameter(t *testing.T) {
	on := func(name, parameter string) *recipe.Recipe {
		return &recipe.Recipe{Name: name, Source: recipe.Source{Parameter: parameter}}
	}
	recipes := []*recipe.Recipe{on("a", "/aws/base"), on("b", "/ami-factory/a/latest"), on("c", "/aws/base"), on("d", "")}
	assert.Equal(t, []string{"/ami-factory/a/latest", "/aws/base"}, decide.Parameters(recipes))
	assert.Equal(t, []string{"a", "c"}, decide.Dependants(recipes, "/aws/base"))
	assert.Equal(t, []string{"b"}, decide.Dependants(recipes, "/other", "/ami-factory/a/latest"))
	assert.Empty(t, decide.Dependants(recipes, ""), "a search is not a parameter")
}

func TestOnlyWhatWasSeenBeforeHasChanged(t *testing.T) {
	was := map[string]string{"/a": "ami-1", "/b": "ami-1"}
	is := map[string]string{"/a": "ami-2", "/b": "ami-1", "/new": "ami-3"}
	assert.Equal(t, []decide.Change{{Parameter: "/a", ImageID: "ami-2", Region: "eu-west-1"}}, decide.Changes(was, is, "eu-west-1"))
	assert.Empty(t, decide.Changes(nil, is, "eu-west-1"))
}
