package main

import (
	"fmt"
	"image/color"
	"os"
	"path/filepath"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
)

var (
	oursColor   = color.RGBA{R: 0x1f, G: 0x77, B: 0xb4, A: 0xff}
	theirsColor = color.RGBA{R: 0xff, G: 0x7f, B: 0x0e, A: 0xff}
)

// plot draws throughput and latency into dir, and returns the names of the
// files.
func (r *Report) plot(dir string) ([]string, error) {
	if len(r.compared) == 0 {
		return nil, nil
	}
	if err := os.MkdirAll(dir, 0o755); err != nil { //nolint:gosec // a folder of the documentation
		return nil, err
	}
	for name, draw := range map[string]func() (*plot.Plot, error){"throughput.svg": r.throughput, "latency.svg": r.latency} {
		p, err := draw()
		if err != nil {
			return nil, err
		}
		if err := p.Save(vg.Length(3+1.1*float64(len(r.compared)))*vg.Inch, 5*vg.Inch, filepath.Join(dir, name)); err != nil {
			return nil, err
		}
	}
	return []string{"throughput.svg", "latency.svg"}, nil
}

// throughput draws both sides of each comparison as bars.
func (r *Report) throughput() (*plot.Plot, error) {
	p := plot.New()
	p.Title.Text = "requests a second, on two cores for all; blue: with the cache"
	p.Y.Label.Text = "thousands a second"
	p.Y.Min = 0
	var ours, theirs plotter.Values
	for _, c := range r.compared {
		ours, theirs = append(ours, c.Ours.PerSecond/1000), append(theirs, c.Theirs.PerSecond/1000)
	}
	if err := addBars(p, ours, theirs); err != nil {
		return nil, err
	}
	r.nameCases(p)
	return p, nil
}

func addBars(p *plot.Plot, ours, theirs plotter.Values) error {
	const width = 14
	for i, v := range []plotter.Values{ours, theirs} {
		bars, err := plotter.NewBarChart(v, vg.Points(width))
		if err != nil {
			return err
		}
		bars.Offset = vg.Points(width * (float64(i) - 0.5))
		bars.Color = []color.Color{oursColor, theirsColor}[i]
		bars.LineStyle.Width = 0
		p.Add(bars)
	}
	return nil
}

// nameCases writes under each pair of bars what it is.
func (r *Report) nameCases(p *plot.Plot) {
	var names []string
	for _, c := range r.compared {
		names = append(names, c.name+"\nand "+c.theirs.Name)
	}
	p.NominalX(names...)
	p.X.Min, p.X.Max = -0.6, float64(len(names))-0.4
	p.X.Tick.Label.Rotation = 0.5
	p.X.Tick.Label.XAlign = -1
	p.X.Tick.Label.YAlign = -0.5
}

// latency draws the percentiles of both sides of each comparison, one above the
// other: the lowest point is the median.
func (r *Report) latency() (*plot.Plot, error) {
	p := plot.New()
	p.Title.Text = fmt.Sprintf("latency at %v %% of the requests, 32 at a time; blue: with the cache", percentiles)
	p.Y.Label.Text = "milliseconds"
	p.Y.Scale, p.Y.Tick.Marker = plot.LogScale{}, plot.LogTicks{Prec: -1}
	for i, c := range r.compared {
		for side, run := range []Run{c.Ours, c.Theirs} {
			x := float64(i) + 0.24*(float64(side)-0.5)
			var points plotter.XYs
			for _, l := range run.Latency {
				points = append(points, plotter.XY{X: x, Y: max(ms(l), 0.01)})
			}
			line, dots, err := plotter.NewLinePoints(points)
			if err != nil {
				return nil, err
			}
			line.Color = []color.Color{oursColor, theirsColor}[side]
			dots.Color = line.Color
			p.Add(line, dots)
		}
	}
	r.nameCases(p)
	return p, nil
}
