// Renders a chart as `helm template` does, from the same parts (text/template, sprig, sigs.k8s.io/yaml).
//
// Helm itself takes minutes to build, all of them for talking to clusters. What a chart may use of it beyond
// this (lookup, subcharts, hooks, .Files) is refused by the template engine as unknown.
//
// Usage: helm-template CHART RELEASE VALUES.yaml
package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"text/template"

	"github.com/Masterminds/sprig/v3"
	"sigs.k8s.io/yaml"
)

type object = map[string]any

func main() {
	if len(os.Args) != 4 {
		fmt.Fprintln(os.Stderr, "usage: helm-template CHART RELEASE VALUES.yaml")
		os.Exit(2)
	}
	if err := render(os.Args[1], os.Args[2], os.Args[3]); err != nil {
		fmt.Fprintln(os.Stderr, "Error:", err)
		os.Exit(1)
	}
}

func render(chart, release, valuesPath string) error {
	var about, defaults, values object
	for path, into := range map[string]*object{
		filepath.Join(chart, "Chart.yaml"):  &about,
		filepath.Join(chart, "values.yaml"): &defaults,
		valuesPath:                          &values,
	} {
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		if err := yaml.UnmarshalStrict(text, into); err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
	}
	scope := object{
		"Values":       merge(defaults, values),
		"Release":      object{"Name": release, "Namespace": "default", "Service": "Helm", "IsInstall": true},
		"Chart":        object{"Name": about["name"], "Version": about["version"], "AppVersion": about["appVersion"]},
		"Capabilities": object{"KubeVersion": object{"Version": "v1.30.0"}},
	}
	folder := fmt.Sprintf("%v/templates", about["name"])
	paths, err := filepath.Glob(filepath.Join(chart, "templates", "*"))
	if err != nil {
		return err
	}
	sort.Strings(paths)
	root := template.New("chart").Option("missingkey=zero")
	root.Funcs(functions(root))
	for _, path := range paths {
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		if _, err := root.New(folder + "/" + filepath.Base(path)).Parse(string(text)); err != nil {
			return err
		}
	}
	for _, path := range paths {
		if filepath.Ext(path) != ".yaml" {
			continue
		}
		var out bytes.Buffer
		name := folder + "/" + filepath.Base(path)
		scope["Template"] = object{"Name": name, "BasePath": folder}
		if err := root.ExecuteTemplate(&out, name, scope); err != nil {
			return err
		}
		// A key that is not there prints as Go's own words; Helm takes them out too.
		text := strings.ReplaceAll(out.String(), "<no value>", "")
		if strings.TrimSpace(text) != "" {
			fmt.Printf("---\n# Source: %s\n%s\n", name, text)
		}
	}
	return nil
}

// functions are sprig's with those of Helm in their place.
func functions(root *template.Template) template.FuncMap {
	known := sprig.TxtFuncMap()
	delete(known, "env")
	delete(known, "expandenv")
	known["toYaml"] = func(value any) string {
		text, err := yaml.Marshal(value)
		if err != nil {
			return ""
		}
		return strings.TrimSuffix(string(text), "\n")
	}
	known["include"] = func(name string, scope any) (string, error) {
		var out bytes.Buffer
		err := root.ExecuteTemplate(&out, name, scope)
		return out.String(), err
	}
	known["fail"] = func(message string) (string, error) { return "", errors.New(message) }
	known["required"] = func(message string, value any) (any, error) {
		if value == nil || value == "" {
			return nil, errors.New(message)
		}
		return value, nil
	}
	return known
}

// merge lays `over` upon `base`, maps within maps; a null takes a default away.
func merge(base, over object) object {
	merged := object{}
	for key, value := range base {
		merged[key] = value
	}
	for key, value := range over {
		below, isMap := merged[key].(object)
		above, both := value.(object)
		switch {
		case value == nil:
			delete(merged, key)
		case isMap && both:
			merged[key] = merge(below, above)
		default:
			merged[key] = value
		}
	}
	return merged
}
