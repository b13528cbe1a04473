/*
 * glombridge_import.groovy - proposals of a model into the project.
 *
 * Does:   adds the proposals in GeoJSON files of 'glombridge detect' (NAME.geojson) to the images of those names, with
 *         their ids, classes, measurements and metadata, locked. It only ever adds: no object that is there is
 *         changed, moved or removed. Left out are: what is no proposal (its class does not end in ': Proposed'); an
 *         object whose id is in the image already, judged or not; and one whose bounding box overlaps that of an
 *         annotation or detection in the same plane by half or more of their union, so that a glomerulus that is
 *         marked, judged or proposed already is not proposed again.
 *         QuPath has no ledger: a proposal that you deleted comes back when its file is imported again. Reject
 *         instead of deleting, or use 'glombridge push', which remembers.
 * Needs:  QuPath 0.4 or later, no extension; a project; before QuPath 0.6 its slides must be there; glombridge_shared,
 *         _exchange and _dialogs.groovy in the same folder.
 * Tried:  with the libraries of QuPath 0.4.4, 0.5.1, 0.6.0 and 0.7.0; its dialogs in 0.4.4 and 0.5.1.
 * Run:    Automate > Project scripts > glombridge_import: choose the files. An image that is open in a viewer gets the
 *         proposals there and is not saved: look, then save it. Others are saved one by one, each only if nothing
 *         else changed its file meanwhile.
 *         Or without a window:  QuPath script glombridge_import.groovy --args job.json
 *         Not while another QuPath has the project open: that one would overwrite what was imported.
 *
 * job.json: {"format": 1, "project": "project.qpproj", "detections": "folder" or
 *            "files": ["a.geojson", {"file": "b.geojson", "image": "b.svs" or 3}], "result": "result.json"}
 * Paths are relative to the job file. An image is named in full, without its ending, or as the program names files;
 * a name that fits several images is refused. The result file says {"format": 1, "ok": true, "error": null, "images":
 * [{"from", "image", "id", "ok", "error", "added", "there", "overlapping", "other", "refused": ["..."]}]}; read it,
 * because QuPath's exit code is 0 even when an image failed.
 */

import groovy.transform.Field
import java.nio.file.Path

// Parameters.

@Field final Map PARAMETERS = [
    // Overlap of bounding boxes (intersection over union) from which on a proposal counts as there already.
    overlap: 0.5d,
]

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

/** NAME.scanned.geojson says where the model looked. */
boolean holdsProposals(String name) {
    return !name.endsWith('.scanned.geojson')
}

double overlap(Object a, Object b) {
    double w = Math.min(a.getBoundsX() + a.getBoundsWidth(), b.getBoundsX() + b.getBoundsWidth()) - Math.max(a.getBoundsX(), b.getBoundsX())
    double h = Math.min(a.getBoundsY() + a.getBoundsHeight(), b.getBoundsY() + b.getBoundsHeight()) - Math.max(a.getBoundsY(), b.getBoundsY())
    if (w <= 0 || h <= 0 || a.getZ() != b.getZ() || a.getT() != b.getT()) {
        return 0
    }
    return w * h / (a.getBoundsWidth() * a.getBoundsHeight() + b.getBoundsWidth() * b.getBoundsHeight() - w * h)
}

/** What to add to an image: the new proposals, and how many of the others there are and why. */
Map sorted(List<Map> features, Object hierarchy) {
    List there = exchange.stored.objects(hierarchy)
    Set ids = there*.getID() as Set
    List outlines = there.findAll { (it.isAnnotation() || it.isDetection()) && it.getROI() != null }*.getROI()
    Map said = [objects: [], there: 0, overlapping: 0, other: 0, refused: []]
    features.eachWithIndex { feature, place ->
        if (!exchange.geoJson.isProposal(feature)) {
            said.other++
            return
        }
        try {
            def object = exchange.geoJson.proposal(feature)
            if (!ids.add(object.getID())) {
                said.there++
            } else if (outlines.any { overlap(object.getROI(), it) >= PARAMETERS.overlap }) {
                said.overlapping++
            } else {
                said.objects << object
            }
        } catch (IllegalArgumentException | ClassCastException error) {
            // One odd feature must not keep the others out; the result names it.
            said.refused << "feature ${place + 1}: ${exchange.words(error)}".toString()
        }
    }
    return said
}

Map importInto(Object entry, List<Map> features, Object openData) {
    if (openData != null) {
        return exchange.dialogs.onScreen {
            Map said = sorted(features, openData.getHierarchy())
            openData.getHierarchy().addObjects(said.objects)
            said
        } + [saved: false]
    }
    String stamp = shared.images.stamp(entry)
    // Before the slide is opened: an image whose objects cannot be read must not be saved over.
    int stored = exchange.stored.objects(exchange.stored.hierarchy(entry)).size()
    def data = entry.readImageData()
    try {
        int read = exchange.stored.objects(data.getHierarchy()).size()
        if (read != stored) {
            throw new IllegalStateException("QuPath read ${read} of ${stored} objects of image '${entry.getImageName()}'; nothing was written.")
        }
        Map said = sorted(features, data.getHierarchy())
        if (said.objects) {
            data.getHierarchy().addObjects(said.objects)
            shared.images.save(entry, data, stamp)
        }
        return said + [saved: !said.objects.isEmpty()]
    } finally {
        // Since 0.6 a slide is opened only when it is needed; asking for it may fail where it is gone.
        data.metaClass.respondsTo(data, 'close') ? data.close() : data.getServer().close()
    }
}

/** Each file with the entry it belongs to, or why there is none. */
List<Map> matched(Object project, List<Map> files) {
    List<Map> rows = files.collect { said ->
        List found = said.image == null ? exchange.chosen.ofFile(project, said.file) : exchange.chosen.named(project, said.image)
        Object name = said.image ?: said.file.fileName
        Map row = [from: said.file.toString(), file: said.file]
        found.size() == 1 ? row + [entry: found[0]] : row + [image: name.toString(), error: exchange.chosen.problem(name, found)]
    }
    return rows
}

List<Map> importAll(Object project, List<Map> files) {
    Map open = exchange.desk.openImages(project)
    return exchange.eachImage(matched(project, files)) { row ->
        Map said = importInto(row.entry, exchange.geoJson.features(row.file), open[row.entry.getID()])
        [added: said.objects.size()] + said.findAll { key, value -> key != 'objects' }
    }
}

String job = exchange.jobOf(binding)
if (job != null) {
    exchange.runJob(job) { said, project ->
        List<Map> files = (said.files ?: []).collect { one ->
            Map named = one instanceof Map ? one : [file: one]
            named + [file: said.jobFile.resolveSibling(named.file as String)]
        }
        if (said.detections) {
            files += said.detections.toFile().listFiles().findAll { it.name.endsWith('.geojson') && holdsProposals(it.name) }
                .sort { it.name }.collect { [file: it.toPath()] }
        }
        if (!files) {
            throw new IllegalArgumentException("The job names no GeoJSON file ('files', or 'detections', a folder with files ending in .geojson).")
        }
        [images: importAll(project, files)]
    }
    return
}
def gui = exchange.desk.window()
if (gui?.getProject() == null) {
    throw new IllegalStateException('Open a project first, or give a job file: --args job.json')
}
List<Path> chosen = exchange.dialogs.chooseFiles('GeoJSON files of glombridge detect')
// Whoever takes a whole folder takes these, too.
List<Path> wanted = chosen.findAll { holdsProposals(it.fileName.toString()) }
if (chosen && !wanted) {
    throw new IllegalArgumentException("${chosen*.fileName.join(', ')}: these files say where the model looked and hold no proposals. " +
        'Choose those without .scanned in their names.')
}
if (!wanted) {
    return
}
List<Map> done = importAll(gui.getProject(), wanted.collect { [file: it] })
List<Map> failed = done.findAll { !it.ok || it.refused }
exchange.dialogs.tell(failed ? "${failed.size()} of ${done.size()} files were not imported completely" : "${done*.added.sum()} proposals added",
    done.collect { row ->
        if (!row.ok) {
            return "${row.image}: ${row.error}".toString()
        }
        String saved = row.saved || !row.added ? '' : ' - open in a viewer: save it there'
        ("${row.image}: ${row.added} added, ${row.there} there already, ${row.overlapping} where something is marked, " +
            "${row.other} no proposals${saved}${row.refused ? '; refused: ' + row.refused.join('; ') : ''}").toString()
    }, !failed)
