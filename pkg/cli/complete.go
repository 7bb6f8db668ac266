package cli

import (
	"slices"

	"github.com/spf13/cobra"

	"github.com/ami-factory/ami-factory/pkg/component"
	"github.com/ami-factory/ami-factory/pkg/localcloud/vm"
	"github.com/ami-factory/ami-factory/pkg/recipe"
	"github.com/ami-factory/ami-factory/pkg/rehearsal"
)

// completion is what a shell asks for the words that may come next.
type completion = func(c *cobra.Command, given []string, begun string) ([]string, cobra.ShellCompDirective)

// once offers words for the first argument only. An error offers nothing: a shell
// has no place to print it.
func once(words func(c *cobra.Command) ([]string, error)) completion {
	return func(c *cobra.Command, given []string, begun string) ([]string, cobra.ShellCompDirective) {
		if len(given) > 0 {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		return always(words)(c, given, begun)
	}
}

// always offers words for a flag, whatever arguments there are.
func always(words func(c *cobra.Command) ([]string, error)) completion {
	return func(c *cobra.Command, _ []string, _ string) ([]string, cobra.ShellCompDirective) {
		found, err := words(c)
		if err != nil {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		return found, cobra.ShellCompDirectiveNoFileComp
	}
}

// recipes completes the names of recipes.
func (a *app) recipes(*cobra.Command) ([]string, error) {
	fsys, err := a.userdataFS()
	if err != nil {
		return nil, err
	}
	return recipe.Names(fsys)
}

// componentNames completes the names of components.
func (a *app) componentNames(*cobra.Command) ([]string, error) {
	fsys, err := a.userdataFS()
	if err != nil {
		return nil, err
	}
	return component.Names(fsys)
}

// imagesOf completes the ids of images in the state folder that the flags name.
func (a *app) imagesOf(l *local) func(*cobra.Command) ([]string, error) {
	return func(c *cobra.Command) ([]string, error) {
		var ids []string
		err := a.withStates(c.Context(), *l, func(states []*rehearsal.Factory) error {
			found, err := allImages(c.Context(), imagesOf(states), "")
			for _, i := range found {
				ids = append(ids, i.ImageID+"\t"+i.Recipe+" in "+i.Region)
			}
			return err
		})
		return ids, err
	}
}

// shells makes an unknown shell an error of cobra's command completion, which would
// print its help and succeed.
func shells(root *cobra.Command) {
	root.InitDefaultCompletionCmd()
	for _, c := range root.Commands() {
		if c.Name() == "completion" {
			group(c)
		}
	}
}

func guestKinds() []string {
	kinds := []string{string(vm.VM), string(vm.Container), string(vm.Simulated)}
	slices.Sort(kinds)
	return kinds
}
