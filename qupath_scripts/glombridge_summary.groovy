/*
 * glombridge_summary.groovy - what the readers marked, per slide and per case.
 *
 * Does:   counts glomeruli, accepted, rejected and open proposals, and how many are graded of how many; for each lesion
 *         the share with its numerator and denominator. A glomerulus that was not graded for a lesion is in neither of
 *         the two: missing grades are never normal. Case figures come from the one slide whose image metadata
 *         glombridge.counting is 'true', from slides that it calls 'distinct', or from the only slide with glomeruli;
 *         never from a silent sum, because serial sections show the same glomerulus again. Open proposals of a case are
 *         those that may change its figures: without a declared slide those on all of its slides. Nothing is changed.
 *         Research use only. Indices of activity and chronicity, and what is entered per case: 'glombridge grades'.
 * Needs:  QuPath 0.4 or later, no extension; a project with glombridge/scheme.json, which 'glombridge scripts' writes;
 *         glombridge_shared, _exchange and _dialogs.groovy in the same folder.
 * Tried:  with the libraries of QuPath 0.4.4, 0.5.1, 0.6.0 and 0.7.0; its window in 0.4.4 and 0.5.1.
 * Limits: a glomerulus is an object of a class that scheme.json names, or of that class with a lesion of the scheme. Other
 *         class names, counting slides and patients that only glombridge.toml declares are not known here.
 * Run:    Automate > Project scripts > glombridge_summary. Of an image that is open what you see is counted.
 *         Or without a window:  QuPath script glombridge_summary.groovy --args job.json
 *
 * job.json: {"format": 1, "project": "project.qpproj", "out": "folder", "result": "result.json"}
 * writes summary.json, summary_cases.csv and summary_slides.csv; paths are relative to the job file. An image that
 * cannot be read, or a grade that cannot be, makes the whole summary fail: a part would look like all.
 */

import groovy.transform.Field
import java.nio.file.Files
import java.nio.file.Path

// Parameters.

@Field final Map PARAMETERS = [
    // Image metadata that holds the patient.
    patient: 'patient',
]

@Field final String RESEARCH_USE = 'Research use only: counts of what a reader marked, no diagnosis.'

// These lines stand in every script: they find glombridge_shared.groovy beside it, or in the open project.
@Field Object shared = null
List<File> folders = []
if (binding.variables['qupath.script.file'] != null) {
    folders << new File(binding.variables['qupath.script.file'] as String).parentFile
}
try {
    folders << Class.forName('qupath.lib.gui.QuPathGUI').getInstance()?.getProject()?.getPath()?.parent?.resolve('scripts')?.toFile()
} catch (ClassNotFoundException | LinkageError ignored) {
    // No user interface: then the script was started from its file.
}
File file = folders.findAll { it != null }.collect { new File(it, 'glombridge_shared.groovy') }.find { it.isFile() }
if (file == null) {
    throw new FileNotFoundException('glombridge_shared.groovy must lie beside this script. Run "glombridge scripts PROJECT", ' +
        'or copy the whole folder qupath_scripts into the folder "scripts" of the project.')
}
shared = new GroovyShell(this.class.classLoader).parse(file)
if (!shared.metaClass.respondsTo(shared, 'begin')) {
    throw new IllegalStateException("${file} is of an older glombridge than this script, and was left as it is because somebody changed it. " +
        "Take the newer one, which lies beside it with '.new' behind its name, and run 'glombridge scripts PROJECT' again.")
}
shared.begin(file.parentFile, 2)

@Field Object exchange = null
exchange = shared.part('glombridge_exchange.groovy')

/** One glomerulus as graded; glombridge/review/glomerulus.py has the same rules. */
class Glomerulus {

    final Map<String, Integer> values = [:]
    final Set<String> present = [] as Set
    final List<String> bad = []
    String reader = 'unknown'

    Boolean has(String lesion) {
        if (values[lesion] != null) {
            return values[lesion] >= 1
        }
        return lesion in present ? true : null
    }

    Boolean hasAny(List<String> lesions, int minGrade) {
        List<Boolean> found = lesions.collect { name ->
            values[name] != null ? values[name] >= minGrade : minGrade == 1 ? has(name) : null
        }
        return true in found ? true : null in found ? null : false
    }

    int known() {
        return values.count { name, value -> value != null || name in present }
    }

    boolean isGraded() {
        return !values.values().any { it == null }
    }

}

Glomerulus glomerulus(Object object, Object scheme) {
    Glomerulus found = new Glomerulus()
    Map measured = shared.objects.measurements(object)
    scheme.lesions.each { lesion ->
        Double value = measured[shared.names.LESION + lesion.name]
        found.values[lesion.name] = null
        if (value == null || value.isNaN()) {
            return
        }
        if (value.isInfinite() || value != Math.rint(value) || value < 0 || value > lesion.max) {
            found.bad << "'${shared.names.LESION}${lesion.name}' is ${value}, no grade from 0 to ${lesion.max}".toString()
        } else {
            found.values[lesion.name] = value as int
        }
    }
    List<String> names = shared.objects.className(object).split(':')*.trim()
    Map named = names.size() < 2 ? null : scheme.lesions.find { it.label != null && it.label == names[-1] }
    if (named != null && found.values[named.name] == 0) {
        // Class and measurement contradict each other.
        found.values[named.name] = null
    } else if (named != null && found.values[named.name] == null) {
        if (named.max == 1) {
            found.values[named.name] = 1
        } else {
            found.present << named.name
        }
    }
    Map excluded = scheme.lesions.collectEntries { [(it.name): scheme.excludedBy(it)] }
    List there = (found.values.keySet() as List).findAll { found.values[it] || it in found.present }
    // Two that exclude each other are both unknown.
    List clashing = there.findAll { name -> there.any { it in excluded[name] } }
    clashing.each { name ->
        found.values[name] = null
        found.present.remove(name)
    }
    (there - clashing).each { name -> (excluded[name] - clashing).each { found.values[it] = 0 } }
    found.reader = shared.objects.metadata(object)[shared.names.REVIEWER]?.trim() ?: 'unknown'
    return found
}

Map share(Map rule, List<Glomerulus> glomeruli) {
    int n = 0
    int of = 0
    int leftOut = 0
    int ungraded = 0
    glomeruli.each { glomerulus ->
        Boolean isOut = glomerulus.hasAny(rule.without ?: [], 1)
        Boolean has = glomerulus.hasAny(rule.any_of, (rule.min_grade ?: 1) as int)
        if (isOut) {
            leftOut++
        } else if (isOut == null || has == null) {
            ungraded++
        } else {
            of++
            n += has ? 1 : 0
        }
    }
    int total = of + ungraded
    return [name: rule.name, n: n, of: of, percent: of ? n * 100d / of : null,
            least_percent: total ? n * 100d / total : null, most_percent: total ? (n + ungraded) * 100d / total : null,
            left_out: leftOut, ungraded: ungraded,]
}

Map figures(List<Glomerulus> glomeruli, Object scheme, List<Map> rules) {
    Map readers = new TreeMap()
    glomeruli.findAll { it.known() > 0 }.each { readers[it.reader] = (readers[it.reader] ?: 0) + 1 }
    return [glomeruli: glomeruli.size(), graded: glomeruli.count { it.isGraded() },
            partly_graded: glomeruli.count { it.known() > 0 && !it.isGraded() }, readers: readers,
            shares: rules.collect { share(it, glomeruli) },
            lesions: scheme.lesions.collect { share([name: it.name, any_of: [it.name]], glomeruli) },]
}

String counting(Object entry) {
    String said = (entry.getMetadataValue('glombridge.counting') ?: '').trim().toLowerCase()
    if (said in ['true', 'yes', '1']) {
        return 'true'
    }
    if (said in ['', 'false', 'no', '0']) {
        return 'nothing'
    }
    if (said != 'distinct') {
        throw new IllegalArgumentException("image '${entry.getImageName()}': metadata 'glombridge.counting' is '${said}'. It is 'true' on " +
            "the one slide that counts for its case, 'distinct' on slides of different tissue, else absent.")
    }
    return said
}

/** The slides of one case that are counted and why; glombridge/review/counting.py has the same rules. */
Map choose(List<Map> slides) {
    List one = slides.findAll { it.counting == 'true' }
    List distinct = slides.findAll { it.counting == 'distinct' }
    List marked = slides.findAll { it.glomeruli > 0 }
    if (one.size() > 1) {
        return [slides: [], why: "${names(one)} are each declared as the one counting slide; leave one"]
    }
    if (one && distinct) {
        return [slides: [], why: "${names(one)} is declared as the counting slide and ${names(distinct)} as distinct; leave one of the two"]
    }
    if (one) {
        return [slides: one, why: "counting slide: ${one[0].image}"]
    }
    if (distinct) {
        List others = marked.findAll { it.counting == 'nothing' }
        String left = others ? "; not counted: ${names(others)}" : ''
        return [slides: distinct.sort(false) { it.image_id }, why: "distinct tissue: ${names(distinct)}${left}"]
    }
    if (!marked) {
        return [slides: [], why: 'no glomerulus is marked on its slides']
    }
    if (marked.size() == 1) {
        return [slides: marked, why: "the only slide with glomeruli: ${marked[0].image}"]
    }
    return [slides: [], why: "${marked.size()} slides have glomeruli (${names(marked)}) and may show the same ones again; declare one as " +
        'counting, or those of different tissue as distinct (image metadata glombridge.counting = true or distinct)',]
}

String names(List<Map> slides) {
    return slides*.image.sort().join(', ')
}

/** What an image holds; `found` are its glomeruli. */
Map slide(Object entry, Object hierarchy, Object scheme, List<Map> rules) {
    List<Glomerulus> found = []
    Map said = [pending_proposals: 0, accepted_proposals: 0, rejected: 0]
    List<String> bad = []
    exchange.stored.objects(hierarchy).each { object ->
        String name = shared.objects.className(object)
        Map metadata = shared.objects.metadata(object)
        boolean isOurs = object.isAnnotation() || (object.isDetection() && metadata['glombridge.run'] != null)
        if (scheme.isProposed(name)) {
            said.pending_proposals++
        } else if (isOurs && object.getROI() != null && name == scheme.rejected) {
            said.rejected++
        } else if (isOurs && object.getROI()?.isArea() && isGlomerulus(name, scheme)) {
            Glomerulus one = glomerulus(object, scheme)
            bad.addAll(one.bad.collect { "object ${object.getID()}: ${it}".toString() })
            found << one
            said.accepted_proposals += metadata[shared.names.STATE] == shared.names.PROPOSAL ? 1 : 0
        }
    }
    if (bad) {
        throw new IllegalArgumentException("grades that cannot be: ${bad.take(20).join('; ')}. Correct them.")
    }
    String patient = (entry.getMetadataValue(PARAMETERS.patient) ?: '').trim() ?: null
    return [image: entry.getImageName(), image_id: entry.getID() as long, patient: patient, counting: counting(entry), counted: false] +
        said + figures(found, scheme, rules) + [found: found]
}

boolean isGlomerulus(String name, Object scheme) {
    String base = scheme.baseOf(name)
    return base != null && (name == base || scheme.lesions.any { it.label != null && name == base + ': ' + it.label })
}

Map summary(Object project) {
    Path file = project.getPath().getParent().resolve('glombridge').resolve('scheme.json')
    def scheme = shared.scheme(project.getPath().getParent())
    if (!scheme.lesions) {
        throw new IllegalStateException("There is no grading scheme in this project (${file}). Name one as 'scheme' in [review] of " +
            "glombridge.toml and run 'glombridge scripts PROJECT'.")
    }
    List<Map> rules = shared.json.read(file).shares ?: []
    Map open = exchange.desk.openImages(project)
    List<Map> read = exchange.eachImage(exchange.chosen.chosen(project, null)) { row ->
        def hierarchy = open[row.entry.getID()]?.getHierarchy() ?: exchange.stored.hierarchy(row.entry)
        [slide: slide(row.entry, hierarchy, scheme, rules)]
    }
    List<Map> failed = read.findAll { !it.ok }
    if (failed) {
        throw new IllegalStateException("There are no figures: ${failed.collect { "image '${it.image}' (entry ${it.id}): ${it.error}" }.join('; ')}")
    }
    List<Map> slides = read*.slide
    List<Map> cases = slides.findAll { it.patient != null }.groupBy { it.patient }.sort().collect { patient, of ->
        Map choice = choose(of)
        choice.slides.each { it.counted = true }
        // Where nothing is declared, one more glomerulus may change which slide counts.
        List undecided = choice.slides.any { it.counting != 'nothing' } ? choice.slides : of
        [patient: patient, slides: of*.image, counted_images: choice.slides*.image_id, why: choice.why.toString(),
         pending_proposals: undecided.sum { it.pending_proposals } ?: 0,
         figures: choice.slides ? figures(choice.slides.collectMany { it.found }, scheme, rules) : null,]
    }
    List<String> notes = []
    List unknown = slides.findAll { it.patient == null }*.image
    if (unknown) {
        notes << "the patient of ${unknown.size()} images is not known (${unknown.take(20).join(', ')}): they are part of no case".toString()
    }
    List told = slides*.findAll { key, value -> key != 'found' }
    return [use: RESEARCH_USE, scheme: scheme.stamp, cases: cases, slides: told, notes: notes]
}

/** The figures of a slide or a case as cells. */
Map cells(Map figures) {
    if (figures == null) {
        return [:]
    }
    Map cells = [glomeruli: figures.glomeruli, graded: figures.graded, partly_graded: figures.partly_graded,
                 readers: figures.readers.collect { reader, n -> "${reader} (${n})" }.join('; '),]
    // A scheme's share and a lesion may have one name.
    (figures.shares + figures.lesions.collect { it + [name: shared.names.LESION + it.name] }).each { share ->
        cells[share.name + ' percent'] = share.percent == null ? null : share.percent.round(2)
        cells[share.name + ' n'] = share.n
        cells[share.name + ' of'] = share.of
        cells[share.name + ' ungraded'] = share.ungraded
    }
    return cells
}

Map tables(Map summary) {
    List<String> kept = ['patient', 'image', 'image_id', 'counting', 'counted', 'pending_proposals', 'accepted_proposals', 'rejected']
    return [
        summary_cases: summary.cases.collect { row ->
            [patient: row.patient, slides: row.slides.size(), slides_counted: row.counted_images.size(), why: row.why,
             pending_proposals: row.pending_proposals,] + cells(row.figures)
        },
        summary_slides: summary.slides.collect { row -> kept.collectEntries { [(it): row[it]] } + cells(row) },
    ]
}

String csv(List<Map> rows, Map summary) {
    List<String> columns = rows.collectMany { it.keySet() as List }.unique()
    List<List> lines = [columns + ['scheme', 'use']] + rows.collect { row -> columns.collect { row[it] } + [summary.scheme, summary.use] }
    return lines.collect { line -> line.collect { cell(it) }.join(',') }.join('\n') + '\n'
}

String cell(Object value) {
    String text = value == null ? '' : value.toString()
    // A spreadsheet takes text that begins like this for a formula, and names come from anywhere.
    if (value instanceof CharSequence && text && text[0] in ['=', '+', '-', '@', '\t', '\r']) {
        text = "'" + text
    }
    return text =~ /[",\r\n]/ ? '"' + text.replace('"', '""') + '"' : text
}

void save(Map summary, Path out) {
    Files.createDirectories(out)
    tables(summary).each { name, rows -> shared.json.write(out.resolve(name + '.csv'), csv(rows, summary)) }
    shared.json.write(out.resolve('summary.json'), shared.json.GSON.toJson(summary) + '\n')
}

String job = exchange.jobOf(binding)
if (job != null) {
    exchange.runJob(job) { said, project ->
        if (!said.out) {
            throw new IllegalArgumentException("The job names no folder for the tables ('out').")
        }
        Map found = summary(project)
        save(found, said.out as Path)
        [images: found.slides.collect { [image: it.image, id: it.image_id, ok: true, error: null, glomeruli: it.glomeruli] },
         files: ['summary.json', 'summary_cases.csv', 'summary_slides.csv'],]
    }
    return
}
def gui = exchange.desk.window()
if (gui?.getProject() == null) {
    throw new IllegalStateException('Open a project first, or give a job file: --args job.json')
}
Map found = summary(gui.getProject())
Map shown = tables(found)
exchange.dialogs.showTables('Summary - glombridge (research use)', [Cases: shown.summary_cases, Slides: shown.summary_slides],
    [found.use, "Scheme: ${found.scheme}".toString()] + found.notes) { out -> save(found, out) }
