package plugins

import (
	"cmp"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"sync"
	"text/template"
	"text/template/parse"

	"ledgerline/adapters/plugins/wire"
)

// A program is a package's templates as Go closures. Why: text/template looks up every name and calls every function by
// reflection, which made rendering a phone ten times as dear, and a sweep renders thousands.
//
// What must hold: text/template says what a template means. A program gives the same bytes, warnings and steps as
// text/template would, or gives up (any panic), and then text/template runs from the start: rendering is pure, reading
// and warning twice is the same as once. So whatever is rare or wrong (types that do not match, budgets
// exceeded, break, numbers with a point) is left to text/template, and so is every error message.
type program struct {
	templates map[string]*compiled
	funcs     []string // names by index
	index     map[string]int
	machines  sync.Pool
}

// compiled is one template. slots is how many variables it declares, "$" included.
type compiled struct {
	body  action
	slots int
}

type (
	action func(m *machine)
	expr   func(m *machine) val
	fn     func(m *machine, args []val) val
)

// machine runs a program for one goroutine.
type machine struct {
	run   run
	funcs []fn
	dot   val
	out   []byte
	vars  []val // of all templates under way; those of the innermost begin at base
	base  int
	stack []val // arguments
	depth int
}

// maxDepth of templates calling templates; text/template decides what becomes of more.
const maxDepth = 1000

// val is a value within a template. Objects have x; text, numbers and truth values do without, for boxing costs.
type val struct {
	kind kind
	n    int // 1 for true
	s    string
	x    any
}

type kind uint8

const (
	object kind = iota
	text
	number
	boolean
)

func textVal(s string) val { return val{kind: text, s: s} }
func intVal(n int) val     { return val{kind: number, n: n} }
func boolVal(b bool) val {
	if b {
		return val{kind: boolean, n: 1}
	}
	return val{kind: boolean}
}

func valOf(x any) val {
	switch x := x.(type) {
	case string:
		return textVal(x)
	case int:
		return intVal(x)
	case bool:
		return boolVal(x)
	case nil:
		giveUp("nil")
	}
	return val{x: x}
}

func (v val) any() any {
	switch v.kind {
	case text:
		return v.s
	case number:
		return v.n
	case boolean:
		return v.n == 1
	}
	if v.x == nil {
		giveUp("nil")
	}
	return v.x
}

func (v val) text() string { v.want(text); return v.s }
func (v val) int() int     { v.want(number); return v.n }
func (v val) bool() bool   { v.want(boolean); return v.n == 1 }

func (v val) want(k kind) {
	if v.kind != k {
		giveUp("type")
	}
}

func (v val) list() []string {
	l, ok := v.x.([]string)
	if !ok {
		giveUp("type")
	}
	return l
}

// truth is text/template's idea of true: not empty, not zero, not nil.
func (v val) truth() bool {
	switch v.kind {
	case text:
		return v.s != ""
	case number, boolean:
		return v.n != 0
	}
	switch x := v.x.(type) {
	case *Line:
		return x != nil
	case *Zone:
		return x != nil
	case []string:
		return len(x) > 0
	}
	t, ok := template.IsTrue(v.x)
	if !ok {
		giveUp("truth")
	}
	return t
}

// giveUp leaves the template to text/template.
func giveUp(why string) { panic("plugins: program gives up: " + why) }

// compileProgram compiles what it can of a set of guarded templates; the others, and those that call them, are missing.
func compileProgram(set *template.Template) *program {
	p := &program{templates: map[string]*compiled{}, index: map[string]int{}}
	p.funcs = slices.Sorted(maps.Keys((&run{}).funcs()))
	for i, name := range p.funcs {
		p.index[name] = i
	}
	for _, t := range set.Templates() {
		if t.Tree != nil {
			p.templates[t.Name()] = p.template(t.Tree)
		}
	}
	return p
}

func (p *program) template(tree *parse.Tree) (t *compiled) {
	t = &compiled{slots: 1}
	defer func() {
		if recover() != nil {
			t.body = func(*machine) { giveUp("template") }
		}
	}()
	c := &compiler{program: p, scope: []string{"$"}, slots: 1}
	t.body = c.list(tree.Root)
	t.slots = c.slots
	return t
}

// execute runs the template called name over v, ok false if it has to be left to text/template.
func (p *program) execute(name, format string, v *view) (out []byte, ok bool) {
	if p == nil {
		return nil, false
	}
	m, _ := p.machines.Get().(*machine)
	if m == nil {
		m = &machine{}
		m.bind(p)
	}
	m.run = run{view: v, format: format}
	defer func() {
		ok = recover() == nil
		m.reset()
		p.machines.Put(m)
	}()
	m.call(p.templates[name], val{x: v})
	return tidy(m.out), true
}

// reset forgets the run: what stays in the pool holds no setting.
func (m *machine) reset() {
	clear(m.out)
	clear(m.vars[:cap(m.vars)])
	clear(m.stack[:cap(m.stack)])
	*m = machine{funcs: m.funcs, out: m.out[:0], vars: m.vars[:0], stack: m.stack[:0]}
}

func (m *machine) call(t *compiled, dot val) {
	if m.depth++; m.depth > maxDepth {
		giveUp("depth")
	}
	was, base := m.dot, m.base
	m.base = len(m.vars)
	for range t.slots {
		m.vars = append(m.vars, val{})
	}
	m.dot, m.vars[m.base] = dot, dot
	t.body(m)
	m.vars = m.vars[:m.base]
	m.dot, m.base = was, base
	m.depth--
}

func (m *machine) step() {
	if m.run.steps++; m.run.steps > maxSteps {
		giveUp("steps")
	}
}

func (m *machine) write(s string) {
	if len(m.out)+len(s) > maxOutput {
		giveUp("output")
	}
	m.out = append(m.out, s...)
}

func (m *machine) print(v val) {
	m.step()
	s := v.s
	switch v.kind {
	case number:
		s = strconv.Itoa(v.n)
	case object, boolean:
		s = fmt.Sprint(v.any())
	}
	if m.run.format != "" {
		s = wire.Escape(m.run.format, s)
	}
	m.write(s)
}

// compiler knows the variables in reach, innermost last. The slot of scope[i] is slot[i], "$" is 0.
type compiler struct {
	*program
	scope []string
	slot  []int
	slots int
}

func (c *compiler) list(l *parse.ListNode) action {
	if l == nil {
		return func(*machine) {}
	}
	mark := len(c.scope)
	var steps []action
	for _, n := range l.Nodes {
		steps = append(steps, c.node(n))
	}
	c.scope = c.scope[:mark]
	if len(steps) == 1 {
		return steps[0]
	}
	return func(m *machine) {
		for _, do := range steps {
			do(m)
		}
	}
}

func (c *compiler) node(n parse.Node) action {
	switch n := n.(type) {
	case *parse.TextNode:
		s := string(n.Text)
		return func(m *machine) { m.write(s) }
	case *parse.CommentNode:
		return func(*machine) {}
	case *parse.ActionNode:
		return c.action(n)
	case *parse.IfNode:
		return c.branch(&n.BranchNode, false)
	case *parse.WithNode:
		return c.branch(&n.BranchNode, true)
	case *parse.RangeNode:
		return c.loop(n)
	case *parse.TemplateNode:
		dot, p, name := constant(val{}), c.program, n.Name
		if n.Pipe != nil {
			dot = c.pipe(n.Pipe)
		}
		return func(m *machine) { m.call(p.templates[name], dot(m)) }
	}
	giveUp("node")
	return nil
}

func (c *compiler) action(n *parse.ActionNode) action {
	cmds := n.Pipe.Cmds
	last := cmds[len(cmds)-1].Args[0].String()
	switch {
	case len(n.Pipe.Decl) > 0:
		set := c.pipe(n.Pipe)
		return func(m *machine) { set(m) }
	case last == "_tick":
		return func(m *machine) { m.step() }
	case last != "_escape":
		giveUp("not guarded")
	}
	v := c.cmds(cmds[:len(cmds)-1])
	return func(m *machine) { m.print(v(m)) }
}

func (c *compiler) branch(n *parse.BranchNode, with bool) action {
	mark := len(c.scope)
	cond := c.pipe(n.Pipe)
	then, otherwise := c.list(n.List), c.list(n.ElseList)
	c.scope = c.scope[:mark]
	return func(m *machine) {
		v := cond(m)
		switch {
		case !v.truth():
			otherwise(m)
		case with:
			was := m.dot
			m.dot = v
			then(m)
			m.dot = was
		default:
			then(m)
		}
	}
}

func (c *compiler) loop(n *parse.RangeNode) action {
	if n.Pipe.IsAssign {
		giveUp("range assigns")
	}
	mark := len(c.scope)
	over := c.cmds(n.Pipe.Cmds)
	var slots []int
	for _, v := range n.Pipe.Decl {
		slots = append(slots, c.declare(v.Ident[0]))
	}
	body, otherwise := c.list(n.List), c.list(n.ElseList)
	c.scope = c.scope[:mark]
	return func(m *machine) {
		was, turns := m.dot, 0
		each(over(m), func(key, elem val) {
			turns++
			m.dot = elem
			switch len(slots) {
			case 1:
				m.vars[m.base+slots[0]] = elem
			case 2:
				m.vars[m.base+slots[0]], m.vars[m.base+slots[1]] = key, elem
			}
			body(m)
		})
		if m.dot = was; turns == 0 {
			otherwise(m)
		}
	}
}

// each calls f for every element of a list, or of a map in order of keys.
func each(v val, f func(key, elem val)) {
	switch x := v.x.(type) {
	case []*Line:
		for i, l := range x {
			f(intVal(i), val{x: l})
		}
	case []*Key:
		for i, k := range x {
			f(intVal(i), val{x: k})
		}
	case []int:
		for i, n := range x {
			f(intVal(i), intVal(n))
		}
	case []string:
		for i, s := range x {
			f(intVal(i), textVal(s))
		}
	case map[string]string:
		for _, k := range slices.Sorted(maps.Keys(x)) {
			f(textVal(k), textVal(x[k]))
		}
	default:
		giveUp("range")
	}
}

// declare makes a variable; it is in reach until scope is cut.
func (c *compiler) declare(name string) int {
	c.scope = append(c.scope, name)
	c.slot = append(c.slot[:len(c.scope)-2], c.slots)
	c.slots++
	return c.slots - 1
}

func (c *compiler) variable(name string) int {
	for i, s := range slices.Backward(c.scope) {
		switch {
		case s != name:
		case i == 0:
			return 0
		default:
			return c.slot[i-1]
		}
	}
	giveUp("variable")
	return 0
}

// pipe is the value of a pipeline, put into its variable if it has one.
func (c *compiler) pipe(p *parse.PipeNode) expr {
	v := c.cmds(p.Cmds)
	if len(p.Decl) == 0 {
		return v
	}
	if len(p.Decl) > 1 {
		giveUp("two variables")
	}
	var at int
	if p.IsAssign {
		at = c.variable(p.Decl[0].Ident[0])
	} else {
		at = c.declare(p.Decl[0].Ident[0])
	}
	return func(m *machine) val {
		x := v(m)
		m.vars[m.base+at] = x
		return x
	}
}

func (c *compiler) cmds(cmds []*parse.CommandNode) expr {
	var v expr
	for _, cmd := range cmds {
		v = c.command(cmd, v)
	}
	return v
}

// command is a function or method with arguments, or a plain value; final comes through the pipe and is the last argument.
func (c *compiler) command(cmd *parse.CommandNode, final expr) expr {
	args := cmd.Args[1:]
	switch n := cmd.Args[0].(type) {
	case *parse.FieldNode:
		return c.chain(dot, n.Ident, args, final)
	case *parse.ChainNode:
		return c.chain(c.value(n.Node), n.Field, args, final)
	case *parse.VariableNode:
		if len(n.Ident) > 1 {
			return c.chain(c.load(n.Ident[0]), n.Ident[1:], args, final)
		}
	case *parse.IdentifierNode:
		return c.function(n.Ident, args, final)
	}
	if len(args) > 0 || final != nil {
		giveUp("not a function")
	}
	return c.value(cmd.Args[0])
}

func dot(m *machine) val { return m.dot }

func (c *compiler) load(name string) expr {
	at := c.variable(name)
	return func(m *machine) val { return m.vars[m.base+at] }
}

// value is an argument.
func (c *compiler) value(n parse.Node) expr {
	switch n := n.(type) {
	case *parse.DotNode:
		return dot
	case *parse.FieldNode:
		return c.chain(dot, n.Ident, nil, nil)
	case *parse.ChainNode:
		return c.chain(c.value(n.Node), n.Field, nil, nil)
	case *parse.VariableNode:
		return c.chain(c.load(n.Ident[0]), n.Ident[1:], nil, nil)
	case *parse.IdentifierNode:
		return c.function(n.Ident, nil, nil)
	case *parse.PipeNode:
		if len(n.Decl) == 0 {
			return c.cmds(n.Cmds)
		}
	case *parse.StringNode:
		return constant(textVal(n.Text))
	case *parse.BoolNode:
		return constant(boolVal(n.True))
	case *parse.NumberNode:
		if n.IsInt && strings.Trim(n.Text, "+-0123456789") == "" {
			return constant(intVal(int(n.Int64)))
		}
	}
	giveUp("value")
	return nil
}

func constant(v val) expr { return func(*machine) val { return v } }

// chain follows .A.B.C; the arguments are the last one's.
func (c *compiler) chain(from expr, names []string, args []parse.Node, final expr) expr {
	if final != nil {
		giveUp("piped into a method")
	}
	for i, name := range names {
		if i < len(names)-1 {
			from = member(from, name, nil)
		} else {
			from = member(from, name, c.args(args, nil))
		}
	}
	return from
}

// args are the arguments, what comes through the pipe last.
func (c *compiler) args(nodes []parse.Node, final expr) []expr {
	var args []expr
	for _, n := range nodes {
		args = append(args, c.value(n))
	}
	if final != nil {
		args = append(args, final)
	}
	return args
}

func (c *compiler) function(name string, nodes []parse.Node, final expr) expr {
	args := c.args(nodes, final)
	if name == "and" || name == "or" {
		return shortCircuit(args, name == "or", final != nil)
	}
	if f, ok := builtins[name]; ok {
		return invoke(args, final != nil, func(m *machine, args []val) val { return f(args) })
	}
	i, ok := c.index[name]
	if !ok {
		giveUp("function")
	}
	return invoke(args, final != nil, func(m *machine, args []val) val { return m.funcs[i](m, args) })
}

func shortCircuit(args []expr, stopAt, piped bool) expr {
	if piped || len(args) == 0 {
		giveUp("piped and, or")
	}
	return func(m *machine) (v val) {
		for _, a := range args {
			if v = a(m); v.truth() == stopAt {
				return v
			}
		}
		return v
	}
}

// invoke calls f with the values of args; when piped, the last is evaluated first.
func invoke(args []expr, piped bool, f fn) expr {
	last := len(args) - 1
	return func(m *machine) val {
		base := len(m.stack)
		var final val
		rest := args
		if piped {
			final, rest = args[last](m), args[:last]
		}
		for _, a := range rest {
			v := a(m)
			m.stack = append(m.stack, v)
		}
		if piped {
			m.stack = append(m.stack, final)
		}
		v := f(m, m.stack[base:])
		m.stack = m.stack[:base]
		return v
	}
}

// builtins are text/template's own functions.
var builtins = map[string]func([]val) val{
	"not": func(a []val) val { return boolVal(!one(a).truth()) },
	"eq": func(a []val) val {
		if len(a) < 2 {
			giveUp("arguments")
		}
		for _, b := range a[1:] {
			if compare(a[0], b) == 0 {
				return boolVal(true)
			}
		}
		return boolVal(false)
	},
	"ne": func(a []val) val { exactly(a, 2); return boolVal(compare(a[0], a[1]) != 0) },
	"lt": func(a []val) val { return boolVal(order(a) < 0) },
	"le": func(a []val) val { return boolVal(order(a) <= 0) },
	"gt": func(a []val) val { return boolVal(order(a) > 0) },
	"ge": func(a []val) val { return boolVal(order(a) >= 0) },
	"len": func(a []val) val {
		switch v := one(a); {
		case v.kind == text:
			return intVal(len(v.s))
		case v.kind != object:
			giveUp("len")
		}
		switch x := a[0].x.(type) {
		case []string:
			return intVal(len(x))
		case []*Line:
			return intVal(len(x))
		case []*Key:
			return intVal(len(x))
		case map[string]string:
			return intVal(len(x))
		}
		giveUp("len")
		return val{}
	},
	"index": func(a []val) val {
		exactly(a, 2)
		switch x := a[0].x.(type) {
		case []string:
			return textVal(x[a[1].int()])
		case []*Line:
			return val{x: x[a[1].int()]}
		case []*Key:
			return val{x: x[a[1].int()]}
		case map[string]string:
			return textVal(x[a[1].text()])
		}
		giveUp("index")
		return val{}
	},
	"slice": func(a []val) val {
		exactly(a, 3)
		return textVal(a[0].text()[a[1].int():a[2].int()])
	},
	"print":    func(a []val) val { return textVal(fmt.Sprint(boxed(a)...)) },
	"printf":   func(a []val) val { return textVal(fmt.Sprintf(a[0].text(), boxed(a[1:])...)) },
	"urlquery": func(a []val) val { return textVal(template.URLQueryEscaper(boxed(a)...)) },
}

func exactly(a []val, n int) {
	if len(a) != n {
		giveUp("arguments")
	}
}

func one(a []val) val { exactly(a, 1); return a[0] }

func boxed(a []val) []any {
	out := make([]any, len(a))
	for i, v := range a {
		out[i] = v.any()
	}
	return out
}

// compare is for two texts, numbers or truth values; those have no order, but being equal or not.
func compare(a, b val) int {
	if a.kind != b.kind || a.kind == object {
		giveUp("compare")
	}
	if a.kind == text {
		return strings.Compare(a.s, b.s)
	}
	return cmp.Compare(a.n, b.n)
}

func order(a []val) int {
	exactly(a, 2)
	if a[0].kind == boolean {
		giveUp("order")
	}
	return compare(a[0], a[1])
}

// bind makes the functions of a package callable: by their type, the rare ones by reflection.
func (m *machine) bind(p *program) {
	all := m.run.funcs()
	for _, name := range p.funcs {
		m.funcs = append(m.funcs, adapt(all[name]))
	}
}

func adapt(f any) fn {
	switch f := f.(type) {
	case func(string) string:
		return func(_ *machine, a []val) val { return textVal(f(one(a).text())) }
	case func(string) bool:
		return func(_ *machine, a []val) val { return boolVal(f(one(a).text())) }
	case func(string) int:
		return func(_ *machine, a []val) val { return intVal(f(one(a).text())) }
	case func(string) []string:
		return func(_ *machine, a []val) val { return val{x: f(one(a).text())} }
	case func(string) map[string]string:
		return func(_ *machine, a []val) val { return val{x: f(one(a).text())} }
	case func(bool) string:
		return func(_ *machine, a []val) val { return textVal(f(one(a).bool())) }
	case func(int) bool:
		return func(_ *machine, a []val) val { return boolVal(f(one(a).int())) }
	case func(string, bool) bool:
		return func(_ *machine, a []val) val { exactly(a, 2); return boolVal(f(a[0].text(), a[1].bool())) }
	case func(string, string) string:
		return func(_ *machine, a []val) val { exactly(a, 2); return textVal(f(a[0].text(), a[1].text())) }
	case func(string, string) bool:
		return func(_ *machine, a []val) val { exactly(a, 2); return boolVal(f(a[0].text(), a[1].text())) }
	case func(string, string, string) string:
		return func(_ *machine, a []val) val {
			exactly(a, 3)
			return textVal(f(a[0].text(), a[1].text(), a[2].text()))
		}
	case func(int, int) int:
		return func(_ *machine, a []val) val { exactly(a, 2); return intVal(f(a[0].int(), a[1].int())) }
	case func([]string, string) int:
		return func(_ *machine, a []val) val { exactly(a, 2); return intVal(f(a[0].list(), a[1].text())) }
	case func([]string, string) bool:
		return func(_ *machine, a []val) val { exactly(a, 2); return boolVal(f(a[0].list(), a[1].text())) }
	case func(bool, any, any) any:
		return func(_ *machine, a []val) val { exactly(a, 3); return choose(a[0].bool(), a[1], a[2]) }
	}
	v := reflect.ValueOf(f)
	return func(_ *machine, a []val) val { return reflected(v, a) }
}

// reflected calls a function or bound method, which gives a value and perhaps an error.
func reflected(f reflect.Value, args []val) val {
	t := f.Type()
	if t.IsVariadic() || t.NumIn() != len(args) {
		giveUp("arguments")
	}
	in := make([]reflect.Value, len(args))
	for i, a := range args {
		in[i] = reflect.ValueOf(a.any())
		if !in[i].IsValid() || !in[i].Type().AssignableTo(t.In(i)) {
			giveUp("type")
		}
	}
	out := f.Call(in)
	if len(out) > 1 && !out[1].IsNil() {
		giveUp("error")
	}
	return valOf(out[0].Interface())
}

// member is a field or method of a value.
func member(of expr, name string, args []expr) expr {
	if len(args) == 0 {
		return func(m *machine) val { return field(of(m), name) }
	}
	return invoke(append([]expr{of}, args...), false, func(_ *machine, a []val) val { return method(a[0], name, a[1:]) })
}

// field knows by name what templates ask for all the time; the rest is reflected.
func field(v val, name string) val {
	switch x := v.x.(type) {
	case *Key:
		switch name {
		case "N":
			return intVal(x.N)
		case "Module":
			return intVal(x.Module)
		case "Type":
			return textVal(x.Type)
		case "Value":
			return textVal(x.Value)
		case "Label":
			return textVal(x.Label)
		case "Pickup":
			return textVal(x.Pickup)
		case "Line":
			return intVal(x.Line)
		case "Used":
			return boolVal(x.Used)
		case "Setting":
			return textVal(x.Setting())
		}
	case *Line:
		switch name {
		case "N":
			return intVal(x.N)
		case "Used":
			return boolVal(x.Used)
		}
	case *view:
		switch name {
		case "Lines":
			return val{x: x.Lines}
		case "Keys":
			return val{x: x.Keys}
		case "Accounts":
			return intVal(x.Accounts)
		case "Zone":
			return val{x: x.Zone}
		case "Language":
			return textVal(x.Language)
		case "ToneCountry":
			return textVal(x.ToneCountry)
		case "BaseURL":
			return textVal(x.BaseURL)
		}
	}
	return method(v, name, nil)
}

func method(v val, name string, args []val) val {
	if l, ok := v.x.(*Line); ok && len(args) == 1 {
		switch name {
		case "Get":
			return textVal(l.Get(args[0].text()))
		case "Has":
			return boolVal(l.Has(args[0].text()))
		case "On":
			return boolVal(l.On(args[0].text()))
		case "Items":
			return val{x: l.Items(args[0].text())}
		case "Pointer":
			return textVal(l.Pointer(args[0].text()))
		}
	}
	if v.kind != object {
		giveUp("member of a plain value")
	}
	r := reflect.ValueOf(v.x)
	if m := r.MethodByName(name); m.IsValid() {
		return reflected(m, args)
	}
	if r.Kind() == reflect.Pointer {
		r = r.Elem()
	}
	if r.Kind() != reflect.Struct || len(args) > 0 {
		giveUp("member")
	}
	f, ok := r.Type().FieldByName(name)
	if !ok || !f.IsExported() {
		giveUp("field")
	}
	return valOf(r.FieldByIndex(f.Index).Interface())
}
