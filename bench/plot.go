//go:build modules

package main

// This file owns the plots: ratios with their intervals, by load, and what grows. They are to be read in black and white.

import (
	"bytes"
	"encoding/json"
	"fmt"
	"image/color"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/font"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/text"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgsvg"
)

func init() { programs["plot"] = plotProgram } // FOLDER

const (
	rowHeight = 0.42 * vg.Centimeter
	aRow      = 3 // panels beside each other
)

var grey = color.Gray{0xa0}

// plotProgram draws the report of its standard input into a folder.
func plotProgram(args []string) error {
	text, err := io.ReadAll(os.Stdin)
	if err != nil {
		return err
	}
	var r report
	if err := json.Unmarshal(text, &r); err != nil {
		return err
	}
	plot.DefaultFont = font.Font{Typeface: "Liberation", Variant: "Sans"}
	loads := slices.DeleteFunc(slices.Clone(r.Loads), func(l loadReport) bool { return l.Group != "calls" })
	peers := dots{
		loads: loads, is: isPeer, wide: 6.5 * vg.Centimeter, axis: "ipcd's calls a second, to theirs",
		value: func(s sideReport) summary { return s.Ratio.inverse() },
		label: func(s sideReport) string { return s.Name },
	}
	likes := dots{
		loads: loads, is: isLike, wide: 8.5 * vg.Centimeter, axis: "calls a second, to the second name",
		value: func(s sideReport) summary { return *s.Ratio },
		label: func(s sideReport) string { return s.Name + " / " + s.Base },
	}
	for name, p := range map[string]drawing{"peers": peers, "sides": likes, "growth": growth(r.Loads)} {
		rows, err := p.panels()
		if err != nil {
			return err
		}
		if len(rows) == 0 {
			continue // none of it was measured
		}
		if err := save(filepath.Join(args[0], "performance-"+name+".svg"), rows, p.width(), p.height()); err != nil {
			return err
		}
	}
	return nil
}

// A drawing is panels in rows.
type drawing interface {
	panels() ([][]*plot.Plot, error)
	width() vg.Length // of a panel
	height() vg.Length
}

// dots are a panel for each load that half of the sides can be put under, with a row for each side: its ratio, and the interval of that.
type dots struct {
	loads []loadReport
	is    func(sideReport) bool
	wide  vg.Length
	axis  string
	value func(sideReport) summary
	label func(sideReport) string
}

func (d dots) width() vg.Length { return d.wide }

func (d dots) height() vg.Length {
	return vg.Length(len(rowsOf(d.loads, d.is)))*rowHeight + 2*vg.Centimeter
}

func (d dots) panels() (rows [][]*plot.Plot, err error) {
	names := rowsOf(d.loads, d.is)
	if len(names) == 0 {
		return nil, nil
	}
	slices.Reverse(names) // the first one is at the top
	var all []*plot.Plot
	for _, l := range d.loads {
		if 2*len(rowsOf([]loadReport{l}, d.is)) < len(names) {
			continue
		}
		p, err := d.panel(l, names, len(all)%aRow == 0)
		if err != nil {
			return nil, err
		}
		all = append(all, p)
	}
	for len(all)%aRow != 0 {
		all = append(all, nil)
	}
	for row := range slices.Chunk(all, aRow) {
		rows = append(rows, row)
	}
	for _, p := range rows[len(rows)-1] {
		if p != nil {
			p.X.Label.Text = d.axis
		}
	}
	return rows, nil
}

func (d dots) panel(l loadReport, names []sideReport, named bool) (*plot.Plot, error) {
	p := newPanel(strings.TrimSuffix(l.Name, " on one connection"))
	p.X.Scale, p.X.Tick.Marker = plot.LogScale{}, ratioTicks
	p.X.Min, p.X.Max = d.limits()
	p.Y.Min, p.Y.Max = -0.7, float64(len(names))-0.3
	var ticks []plot.Tick
	var points intervals
	for i, row := range names {
		label := ""
		if named {
			label = d.label(row)
		}
		ticks = append(ticks, plot.Tick{Value: float64(i), Label: label})
		if at := l.index(row.Name); at >= 0 && d.is(l.Sides[at]) {
			points.add(d.value(l.Sides[at]), float64(i))
		}
	}
	p.Y.Tick.Marker, p.Y.Tick.Length = plot.ConstantTicks(ticks), 0
	p.Y.LineStyle.Width, p.Y.Padding = 0, 12 // letters may be wider than they are here
	for i := range names {
		if err := addLine(p, grey, 0.25, nil, plotter.XY{X: p.X.Min, Y: float64(i)}, plotter.XY{X: p.X.Max, Y: float64(i)}); err != nil {
			return nil, err
		}
	}
	if err := addLine(p, color.Black, 0.6, []vg.Length{2, 2}, plotter.XY{X: 1, Y: p.Y.Min}, plotter.XY{X: 1, Y: p.Y.Max}); err != nil {
		return nil, err
	}
	return p, points.addAcross(p)
}

// limits are those of all panels, so that they can be compared.
func (d dots) limits() (low, high float64) {
	low, high = 0.9, 1.1
	for _, l := range d.loads {
		for _, s := range l.Sides {
			if d.is(s) {
				v := d.value(s)
				low, high = min(low, v.Low), max(high, v.High)
			}
		}
	}
	return low / 1.15, high * 1.15
}

// growth is a panel of the loads that differ by an amount, as it grows.
type growth []loadReport

func (growth) width() vg.Length  { return 12 * vg.Centimeter }
func (growth) height() vg.Length { return 8 * vg.Centimeter }

func (g growth) panels() ([][]*plot.Plot, error) {
	p := newPanel("16 B, 1 caller beside ...")
	p.X.Label.Text, p.Y.Label.Text = "how many", "calls a second, to the first"
	p.X.Scale, p.X.Tick.Marker = plot.LogScale{}, amountTicks
	p.X.Min, p.X.Max, p.Y.Min, p.Y.Max = 0.8, 12_500, 0.8, 1.1
	p.Legend.Left, p.Legend.Padding = true, 2
	p.Legend.TextStyle.Font.Size = 8
	glyphs := []draw.GlyphDrawer{draw.CircleGlyph{}, draw.BoxGlyph{}, draw.TriangleGlyph{}}
	found := 0
	for _, l := range g {
		if l.Group != "growth" || !strings.Contains(l.Name, "beside") {
			continue
		}
		_, what, _ := strings.Cut(l.Name, "beside ")
		var points intervals
		for _, s := range l.Sides {
			count, _, _ := strings.Cut(s.Name, " ")
			n, err := strconv.Atoi(strings.ReplaceAll(count, ",", ""))
			if err != nil {
				return nil, fmt.Errorf("%s: %w", s.Name, err)
			}
			ratio := summary{1, 1, 1, 1, 1}
			if s.Ratio != nil {
				ratio = *s.Ratio
			}
			points.add(ratio, float64(n)*(1+0.08*float64(found))) // beside each other, not on one another
			p.Y.Min, p.Y.Max = min(p.Y.Min, ratio.Low-0.02), max(p.Y.Max, ratio.High+0.02)
		}
		if err := points.addUp(p, what, glyphs[found%len(glyphs)], dashes[found%len(dashes)]); err != nil {
			return nil, err
		}
		found++
	}
	if found == 0 {
		return nil, nil
	}
	return [][]*plot.Plot{{p}}, addLine(p, grey, 0.6, []vg.Length{2, 2}, plotter.XY{X: p.X.Min, Y: 1}, plotter.XY{X: p.X.Max, Y: 1})
}

var dashes = [][]vg.Length{nil, {4, 2}, {1, 2}}

// intervals are values with their errors, and where they stand on the other axis.
type intervals struct {
	values []summary
	places []float64
}

func (p *intervals) add(v summary, place float64) {
	p.values, p.places = append(p.values, v), append(p.places, place)
}

// errors are distances from the value.
func (p *intervals) errors() (list []struct{ Low, High float64 }) {
	for _, v := range p.values {
		list = append(list, struct{ Low, High float64 }{v.Low - v.Median, v.High - v.Median})
	}
	return list
}

// addAcross adds dots whose values are along X.
func (p *intervals) addAcross(to *plot.Plot) error {
	if len(p.values) == 0 {
		return nil
	}
	var at plotter.XYs
	for i, v := range p.values {
		at = append(at, plotter.XY{X: v.Median, Y: p.places[i]})
	}
	bars, err := plotter.NewXErrorBars(struct {
		plotter.XYer
		plotter.XErrorer
	}{at, plotter.XErrors(p.errors())})
	if err != nil {
		return err
	}
	bars.CapWidth = 3
	points, err := plotter.NewScatter(at)
	if err != nil {
		return err
	}
	points.Shape, points.Radius = draw.CircleGlyph{}, 1.8
	to.Add(bars, points)
	return nil
}

// addUp adds a line of dots whose values are along Y, with a name.
func (p *intervals) addUp(to *plot.Plot, name string, shape draw.GlyphDrawer, dash []vg.Length) error {
	var at plotter.XYs
	for i, v := range p.values {
		at = append(at, plotter.XY{X: p.places[i], Y: v.Median})
	}
	bars, err := plotter.NewYErrorBars(struct {
		plotter.XYer
		plotter.YErrorer
	}{at, plotter.YErrors(p.errors())})
	if err != nil {
		return err
	}
	bars.CapWidth = 3
	line, points, err := plotter.NewLinePoints(at)
	if err != nil {
		return err
	}
	line.Width, line.Dashes = 0.8, dash
	points.Shape, points.Radius = shape, 2.5
	to.Add(bars, line, points)
	to.Legend.Add(name, line, points)
	return nil
}

func addLine(p *plot.Plot, c color.Color, width vg.Length, dash []vg.Length, ends ...plotter.XY) error {
	line, err := plotter.NewLine(plotter.XYs(ends))
	if err != nil {
		return err
	}
	line.Color, line.Width, line.Dashes = c, width, dash
	p.Add(line)
	return nil
}

func newPanel(title string) *plot.Plot {
	p := plot.New()
	p.Title.Text, p.Title.TextStyle.Font.Size, p.Title.Padding = title, 9, 4
	for _, axis := range []*plot.Axis{&p.X, &p.Y} {
		axis.Label.TextStyle.Font.Size, axis.Tick.Label.Font.Size = 8, 8
		axis.Padding = 2
	}
	p.Y.Tick.Label.XAlign = text.XRight
	return p
}

// ratioTicks are as many as have room.
var ratioTicks = plot.TickerFunc(func(low, high float64) (ticks []plot.Tick) {
	values := []float64{0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100}
	if high/low > 50 {
		values = []float64{0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30, 100}
	}
	for _, v := range values {
		if v >= low && v <= high {
			ticks = append(ticks, plot.Tick{Value: v, Label: fmt.Sprint(v)})
		}
	}
	return ticks
})

var amountTicks = plot.TickerFunc(func(low, high float64) (ticks []plot.Tick) {
	for v := 1; float64(v) <= high; v *= 10 {
		ticks = append(ticks, plot.Tick{Value: float64(v), Label: thousands(v)})
	}
	return ticks
})

// save draws panels as SVG.
func save(file string, rows [][]*plot.Plot, width, height vg.Length) error {
	columns := len(rows[0])
	canvas := vgsvg.New(vg.Length(columns)*width, vg.Length(len(rows))*height)
	page := draw.New(canvas)
	page.SetColor(color.White)
	page.Fill(page.Rectangle.Path())
	tiles := draw.Tiles{Rows: len(rows), Cols: columns, PadX: 8, PadY: 10, PadTop: 4, PadBottom: 4, PadLeft: 4, PadRight: 8}
	for i, row := range plot.Align(rows, tiles, page) {
		for j, at := range row {
			if rows[i][j] != nil {
				rows[i][j].Draw(at)
			}
		}
	}
	var b bytes.Buffer
	if _, err := canvas.WriteTo(&b); err != nil {
		return err
	}
	// Whoever has no Liberation has something of the same widths.
	svg := strings.ReplaceAll(b.String(), "font-family:Liberation Sans", "font-family:Liberation Sans,Arial,Helvetica,sans-serif")
	return os.WriteFile(file, []byte(svg), 0o644)
}
