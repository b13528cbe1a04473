/*
 * glombridge_exchange.groovy - what export, import and summary share; not run by itself.
 *
 * Does:   writes objects as GeoJSON and reads proposals from it, names files, runs a job from a JSON file, and
 *         reads images of a project so that what QuPath could not read never looks like an empty image.
 * Needs:  QuPath 0.4 or later, no extension. It must lie in the same folder as the other scripts.
 * Tried:  with the libraries of QuPath 0.4.4, 0.5.1, 0.6.0 and 0.7.0.
 *
 * The GeoJSON is that of the glombridge program, glombridge/geojson_codec: one flat feature per object. What
 * QuPath's GeoJSON has no place for stands in the property 'glombridge', which QuPath ignores.
 */

import groovy.transform.Field
import java.awt.image.BufferedImage
import java.nio.charset.StandardCharsets
import java.nio.file.Files
import java.nio.file.Path
import java.nio.file.Paths
import java.text.Normalizer
import java.util.regex.Pattern
import qupath.lib.geom.Point2
import qupath.lib.io.GsonTools
import qupath.lib.measurements.MeasurementList
import qupath.lib.measurements.MeasurementListFactory
import qupath.lib.objects.PathObject
import qupath.lib.objects.PathObjects
import qupath.lib.objects.classes.PathClass
import qupath.lib.projects.ProjectIO
import qupath.lib.regions.ImagePlane
import qupath.lib.roi.ROIs
import qupath.lib.roi.interfaces.ROI

/** File names made of image names, as in glombridge/filenames.py. */
class FileNames {

    static final int MAX_LENGTH = 80
    private static final Pattern DEVICE = Pattern.compile('(?iu)(con|prn|aux|nul|com\\p{Nd}|lpt\\p{Nd})(\\.|$)')

    static String safe(String name) {
        String text = Normalizer.normalize(name, Normalizer.Form.NFC)
            .replaceAll('[^\\p{L}\\p{N}_.\\-]+', '_').replaceAll('^[._\\-]+', '').replaceAll('[._\\-]+$', '')
        int[] points = text.codePoints().limit(MAX_LENGTH).toArray()
        String safe = new String(points, 0, points.length) ?: 'image'
        return DEVICE.matcher(safe).lookingAt() ? '_' + safe : safe
    }

    /** The id of the entry keeps two images of one name apart. */
    static String of(String entryId, String imageName) {
        return entryId.padLeft(4, '0') + '_' + safe(imageName) + '.geojson'
    }

}

/** Outlines as GeoJSON geometries and back. Coordinates keep every digit, which QuPath's own writer does not. */
class Outlines {

    static final int ELLIPSE_SEGMENTS = 64
    private static final Map<String, String> KINDS = [
        RectangleROI: 'rectangle', EllipseROI: 'ellipse', PolygonROI: 'polygon', LineROI: 'line',
        PolylineROI: 'polyline', PointsROI: 'points',
    ]

    /** The geometry; where its form alone would suggest another kind, the kind is noted in extras under the key. */
    static Map write(ROI roi, Map extras, String key) {
        String kind = KINDS[roi.class.simpleName] ?: 'geometry'
        Map geometry = "${kind}"(roi)
        if (roi.getC() != -1 || roi.getZ() != 0 || roi.getT() != 0) {
            geometry.plane = [c: roi.getC(), z: roi.getZ(), t: roi.getT()]
        }
        if (kind == 'ellipse') {
            geometry.isEllipse = true
        } else if (kind != kindOf(geometry)) {
            extras[key] = kind
        }
        return geometry
    }

    /** An outline that encloses an area. */
    static ROI read(Map geometry, String kind) {
        Map where = geometry.plane instanceof Map ? geometry.plane : [:]
        int c = (where.c == null ? -1 : where.c) as int
        ImagePlane plane = ImagePlane.getPlaneWithChannel(c, (where.z ?: 0) as int, (where.t ?: 0) as int)
        if (!(geometry.type in ['Polygon', 'MultiPolygon'])) {
            throw new IllegalArgumentException("its geometry is a ${geometry.type}, which encloses no area")
        }
        List<List> ring = geometry.type == 'Polygon' && geometry.coordinates.size() == 1 ? geometry.coordinates[0] : null
        if (ring != null) {
            if (ring.size() < 4 || ring.flatten().any { !(it instanceof Number) || it.isNaN() || it.isInfinite() }) {
                throw new IllegalArgumentException('its outline is none')
            }
            if (geometry.isEllipse == true || (kind == null && isRectangle(ring)) || kind == 'rectangle') {
                return box(ring, plane, geometry.isEllipse == true)
            }
            if (kind != 'geometry') {
                return ROIs.createPolygonROI(ring.dropRight(1).collect { new Point2(it[0], it[1]) }, plane)
            }
        }
        ROI roi = GsonTools.getInstance().fromJson(GsonTools.getInstance().toJson(geometry), ROI)
        return roi.updatePlane(plane)
    }

    private static ROI box(List<List> ring, ImagePlane plane, boolean isEllipse) {
        double x = ring.collect { it[0] }.min()
        double y = ring.collect { it[1] }.min()
        double width = span(x, ring.collect { it[0] }.max())
        double height = span(y, ring.collect { it[1] }.max())
        return isEllipse ? ROIs.createEllipseROI(x, y, width, height, plane) : ROIs.createRectangleROI(x, y, width, height, plane)
    }

    /** What must be added to get exactly there: QuPath keeps the sum. */
    private static double span(double from, double to) {
        double width = to - from
        return [width, Math.nextUp(width), Math.nextDown(width)].find { from + it == to } ?: width
    }

    private static Map rectangle(ROI roi) {
        List<List> ring = xy(roi)
        return [type: 'Polygon', coordinates: [ring + [ring[0]]]]
    }

    private static Map ellipse(ROI roi) {
        double x = roi.getBoundsX()
        double y = roi.getBoundsY()
        double rx = roi.getBoundsWidth() / 2
        double ry = roi.getBoundsHeight() / 2
        double[] xs = [x, x + rx, x + roi.getBoundsWidth()]
        double[] ys = [y, y + ry, y + roi.getBoundsHeight()]
        int quarter = ELLIPSE_SEGMENTS / 4
        List<List> ring = (0..<ELLIPSE_SEGMENTS).collect { k ->
            double angle = k * (2 * Math.PI / ELLIPSE_SEGMENTS)
            // The four outermost points carry the box; rounding must not move them.
            [k == 0 ? xs[2] : k == 2 * quarter ? xs[0] : xs[1] + rx * Math.cos(angle),
             k == quarter ? ys[2] : k == 3 * quarter ? ys[0] : ys[1] + ry * Math.sin(angle),]
        }
        return [type: 'Polygon', coordinates: [ring + [ring[0]]]]
    }

    private static Map polygon(ROI roi) {
        List<List> ring = xy(roi)
        if (ring.size() > 1 && ring[0] == ring[-1]) {
            ring = ring.dropRight(1)
        }
        return [type: 'Polygon', coordinates: [ring + [ring[0]]]]
    }

    private static Map line(ROI roi) {
        return [type: 'LineString', coordinates: xy(roi)]
    }

    private static Map polyline(ROI roi) {
        return line(roi)
    }

    private static Map points(ROI roi) {
        List<List> found = xy(roi)
        return found.size() == 1 ? [type: 'Point', coordinates: found[0]] : [type: 'MultiPoint', coordinates: found]
    }

    private static List<List> xy(ROI roi) {
        return roi.getAllPoints().collect { [it.getX(), it.getY()] }
    }

    private static Map geometry(ROI roi) {
        return ofShape(roi.getGeometry())
    }

    private static Map ofShape(Object shape) {
        String type = shape.getGeometryType()
        if (type == 'GeometryCollection') {
            return [type: type, geometries: parts(shape).collect { ofShape(it) }]
        }
        return [type: type == 'LinearRing' ? 'LineString' : type, coordinates: coordinates(shape)]
    }

    private static List coordinates(Object shape) {
        switch (shape.getGeometryType()) {
            case 'Point':
                return [shape.getX(), shape.getY()]
            case 'LineString':
            case 'LinearRing':
                return shape.getCoordinates().collect { [it.x, it.y] }
            case 'Polygon':
                List holes = (0..<shape.getNumInteriorRing()).collect { coordinates(shape.getInteriorRingN(it)) }
                return [coordinates(shape.getExteriorRing())] + holes
            default:
                return parts(shape).collect { coordinates(it) }
        }
    }

    private static List parts(Object shape) {
        return (0..<shape.getNumGeometries()).collect { shape.getGeometryN(it) }
    }

    /** The kind that a reader takes for a geometry about which nothing is noted. */
    private static String kindOf(Map geometry) {
        switch (geometry.type) {
            case 'Polygon':
                List<List> rings = geometry.coordinates
                return rings.size() > 1 ? 'geometry' : isRectangle(rings[0]) ? 'rectangle' : 'polygon'
            case 'LineString':
                return geometry.coordinates.size() == 2 ? 'line' : 'polyline'
            case 'Point':
            case 'MultiPoint':
                return 'points'
            default:
                return 'geometry'
        }
    }

    private static boolean isRectangle(List<List> ring) {
        if (ring.size() != 5) {
            return false
        }
        List<List<Boolean>> still = (0..3).collect { [ring[it][0] == ring[it + 1][0], ring[it][1] == ring[it + 1][1]] }
        return still.every { it[0] != it[1] } && (0..2).every { still[it] != still[it + 1] }
    }

}

/** Objects as features and back. */
class GeoJson {

    private static final Map<String, Double> NOT_FINITE = [
        NaN: Double.NaN, Infinity: Double.POSITIVE_INFINITY, '-Infinity': Double.NEGATIVE_INFINITY,
    ]
    private static final List<Integer> DEFAULT_COLOR = [64, 64, 64]

    private final shared

    GeoJson(Object shared) {
        this.shared = shared
    }

    /** A file: UTF-8, one feature per line. */
    String text(Collection<PathObject> objects) {
        String features = objects.collect { shared.json.GSON.toJson(feature(it)) }.join(',\n')
        // A name can hold half of a surrogate pair; UTF-8 cannot, an escape can.
        features = features.replaceAll('\\p{Cs}') { String half -> String.format('\\u%04x', (int) half.charAt(0)) }
        return '{"type":"FeatureCollection","features":[\n' + features + '\n]}\n'
    }

    Map feature(PathObject object) {
        Map extras = [:]
        Map properties = [objectType: kind(object)]
        if (object.getName() != null) {
            properties.name = object.getName()
        }
        if (object.getColor() != null) {
            List<Integer> color = channels(object.getColor())
            properties.color = color.take(3)
            if (color[3] != 255) {
                extras.colorAlpha = color[3]
            }
        }
        if (shared.objects.className(object)) {
            properties.classification = classification(object.getPathClass())
            if (object.getPathClass().getColor() == null) {
                extras.classHasColor = false
            }
        }
        if (object.isLocked()) {
            properties.isLocked = true
        }
        if (object.isTMACore()) {
            properties.isMissing = object.isMissing()
        }
        addMeasurements(shared.objects.measurements(object), properties, extras)
        Map metadata = shared.objects.metadata(object)
        if (metadata) {
            properties.metadata = metadata
        }
        if (object.getParent() != null && !object.getParent().isRootObject()) {
            extras.parent = object.getParent().getID().toString()
        }
        if (!Double.isNaN(object.getClassProbability())) {
            extras.probability = number(object.getClassProbability())
        }
        Map feature = [type: 'Feature', id: object.getID().toString(), geometry: null]
        if (object.isCell() && object.getNucleusROI() != null) {
            feature.nucleusGeometry = Outlines.write(object.getNucleusROI(), extras, 'nucleusOutline')
        }
        if (object.getROI() != null) {
            feature.geometry = Outlines.write(object.getROI(), extras, 'outline')
        }
        if (extras) {
            properties.glombridge = extras
        }
        return feature + [properties: properties]
    }

    /** The features of a file. */
    List<Map> features(Path file) {
        Object document
        try {
            document = shared.json.read(file)
        } catch (com.google.gson.JsonParseException error) {
            throw new IllegalArgumentException("${file.fileName} is damaged or no JSON: ${error.message}", error)
        }
        Object found = document instanceof Map ? document.features : document
        if (!(found instanceof List) || found.any { !(it instanceof Map) }) {
            throw new IllegalArgumentException("${file.fileName} is JSON but no GeoJSON: it should be a FeatureCollection.")
        }
        return found
    }

    /** Whether a feature is what a model proposed and nobody has judged. */
    boolean isProposal(Map feature) {
        List<String> names = classNames(properties(feature))
        return names.size() > 1 && names[-1] == shared.names.PROPOSED
    }

    /** The object of a proposal. What cannot be one is refused with an IllegalArgumentException. */
    PathObject proposal(Map feature) {
        Map properties = properties(feature)
        Map extras = properties.glombridge instanceof Map ? properties.glombridge : [:]
        String type = properties.objectType ?: 'annotation'
        if (!(type in ['annotation', 'detection'])) {
            throw new IllegalArgumentException("it is a ${type}; proposals are annotations or detections")
        }
        UUID id = id(feature)
        List<String> names = classNames(properties)
        if (names.any { !it || it != it.trim() || it =~ /[:\r\n]/ }) {
            // One such name makes QuPath 0.5 to 0.7 open the whole image as empty, without an error.
            throw new IllegalArgumentException("its class ${names} has a name that QuPath could not read back")
        }
        if (!(feature.geometry instanceof Map)) {
            throw new IllegalArgumentException('it has no outline')
        }
        ROI roi = Outlines.read(feature.geometry, extras.outline as String)
        def rgb = properties.classification instanceof Map ? properties.classification.color : null
        Integer color = extras.classHasColor == false ? null : packed(rgb)
        PathClass pathClass = PathClass.fromString(names.join(': '), color)
        // The default list of a detection keeps 32 bits of a number.
        MeasurementList list = MeasurementListFactory.createMeasurementList(16, MeasurementList.MeasurementListType.GENERAL)
        PathObject object = type == 'annotation' ?
            PathObjects.createAnnotationObject(roi, pathClass, list) : PathObjects.createDetectionObject(roi, pathClass, list)
        object.setID(id)
        if (extras.probability != null) {
            object.setPathClass(pathClass, value(extras.probability))
        }
        if (properties.name != null) {
            object.setName(properties.name as String)
        }
        Integer own = packed(properties.color)
        if (own != null) {
            object.setColor(extras.colorAlpha == null ? own : (own & 0xFFFFFF) | ((extras.colorAlpha as int) << 24))
        }
        Map measurements = (properties.measurements ?: [:]) + (extras.measurements ?: [:])
        List order = ((extras.measurementNames ?: []) + measurements.keySet()).unique()
        shared.objects.setMeasurements(object, order.collectEntries { [(it): value(measurements[it])] })
        shared.objects.setMetadata(object, (properties.metadata ?: [:]).collectEntries { key, text -> [(key): text as String] })
        object.setLocked(properties.isLocked == true)
        return object
    }

    /** The id of a feature; without one nothing could tell whether it is there already. */
    static UUID id(Map feature) {
        if (!(feature.id instanceof String) || !(feature.id ==~ /[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}/)) {
            throw new IllegalArgumentException("its id ${feature.id} is none")
        }
        return UUID.fromString(feature.id)
    }

    private static Map properties(Map feature) {
        return feature.properties instanceof Map ? feature.properties : [:]
    }

    private static List<String> classNames(Map properties) {
        Object said = properties.classification
        if (said instanceof Map) {
            return said.names instanceof List ? said.names.collect { it as String } : classNames([classification: said.name])
        }
        return said instanceof String ? said.split(':')*.trim() : []
    }

    private static String kind(PathObject object) {
        return object.isTMACore() ? 'tmaCore' : object.isCell() ? 'cell' : object.isTile() ? 'tile' :
            object.isDetection() ? 'detection' : 'annotation'
    }

    private static Map classification(PathClass pathClass) {
        List<Integer> color = pathClass.getColor() == null ? DEFAULT_COLOR : channels(pathClass.getColor())
        if (color.size() == 4 && color[3] in [0, 255]) {
            color = color.take(3)
        }
        List<String> names = pathClass.toString().split(':')*.trim()
        return names.size() == 1 ? [name: names[0], color: color] : [names: names, color: color]
    }

    private static void addMeasurements(Map<String, Double> measurements, Map properties, Map extras) {
        // QuPath 0.4 cannot import a file with a single number that is not finite.
        Map finite = measurements.findAll { name, value -> !value.isNaN() && !value.isInfinite() }
        if (finite) {
            properties.measurements = finite
        }
        if (finite.size() < measurements.size()) {
            extras.measurements = (measurements - finite).collectEntries { name, value -> [(name): number(value)] }
            extras.measurementNames = measurements.keySet() as List
        }
    }

    private static Object number(double value) {
        return Double.isNaN(value) || Double.isInfinite(value) ? Double.toString(value) : value
    }

    private static double value(Object said) {
        if (said == null) {
            return Double.NaN
        }
        if (said instanceof Number) {
            return said.doubleValue()
        }
        if (said in NOT_FINITE.keySet()) {
            return NOT_FINITE[said]
        }
        throw new IllegalArgumentException("a measurement of it is ${said}, no number")
    }

    private static List<Integer> channels(int argb) {
        return [(argb >> 16) & 255, (argb >> 8) & 255, argb & 255, (argb >> 24) & 255]
    }

    private static Integer packed(Object color) {
        if (!(color instanceof List) || !(color.size() in [3, 4])) {
            return null
        }
        List<Integer> of = color.collect { it as int }
        return ((of.size() == 4 ? of[3] : 255) << 24) | (of[0] << 16) | (of[1] << 8) | of[2]
    }

}

/** What lies in the file of an image. QuPath reads some damaged files as images without any object. */
class Stored {

    private static final List<String> CLASSES = [
        'PathAnnotationObject', 'PathDetectionObject', 'PathCellObject', 'PathTileObject', 'TMACoreObject',
    ]

    /** The objects of an image that is not open. */
    static Object hierarchy(Object entry) {
        checkEnd(entry)
        Object hierarchy = entry.readHierarchy()
        check(entry, hierarchy)
        return hierarchy
    }

    /** QuPath's reader never comes back from a file that is cut off, and does not see that one is missing. */
    static void checkEnd(Object entry) {
        Path file = file(entry)
        if (file == null) {
            Path backup = entry.getEntryPath()?.resolve('data.qpdata.bkp')
            if (backup != null && Files.exists(backup)) {
                throw new IOException("QuPath was stopped while it saved image '${entry.getImageName()}': there is only ${backup}. " +
                    'Open the image in QuPath and save it.')
            }
            return
        }
        RandomAccessFile opened = new RandomAccessFile(file.toFile(), 'r')
        try {
            byte[] end = new byte[(int) Math.min(16, opened.length())]
            opened.seek(opened.length() - end.length)
            opened.readFully(end)
            if (!new String(end, StandardCharsets.ISO_8859_1).contains('EOF')) {
                throw new IOException("The data file of image '${entry.getImageName()}' is damaged: its end is missing (${file}). " +
                    'Restore it from a backup.')
            }
        } finally {
            opened.close()
        }
    }

    /** Refuses an image that QuPath says is empty though its file speaks of objects. */
    static void check(Object entry, Object hierarchy) {
        Path file = file(entry)
        if (file == null || (hierarchy != null && !hierarchy.isEmpty())) {
            return
        }
        String text = new String(Files.readAllBytes(file), StandardCharsets.ISO_8859_1)
        if (hierarchy == null || CLASSES.any { text.contains('qupath.lib.objects.' + it) }) {
            throw new IOException("This QuPath cannot read the objects of image '${entry.getImageName()}' (${file}): a name of a class " +
                "in it, or a newer QuPath's file. Nothing was written. 'glombridge doctor' says more.")
        }
    }

    /** All objects of a hierarchy, parents before their children. */
    static List<PathObject> objects(Object hierarchy) {
        List<PathObject> found = []
        List<PathObject> open = (hierarchy.getRootObject().getChildObjects() as List).reverse()
        while (open) {
            PathObject object = open.removeLast()
            found << object
            open.addAll((object.getChildObjects() as List).reverse())
        }
        return found
    }

    private static Path file(Object entry) {
        Path file = entry.getEntryPath()?.resolve('data.qpdata')
        return file != null && Files.exists(file) ? file : null
    }

}

/** QuPath's user interface, where there is one. */
class Desk {

    /** QuPath's window; null on the command line. */
    static Object window() {
        try {
            return Class.forName('qupath.lib.gui.QuPathGUI').getInstance()
        } catch (ClassNotFoundException | LinkageError ignored) {
            return null
        }
    }

    /** The data of every image that is open in some viewer, by the id of its entry. */
    static Map<String, Object> openImages(Object project) {
        Object gui = window()
        if (gui == null || gui.getProject() == null || gui.getProject().getPath() != project?.getPath()) {
            return [:]
        }
        // getViewers() became getAllViewers() in 0.5.
        def viewers = gui.metaClass.respondsTo(gui, 'getAllViewers') ? gui.getAllViewers() : gui.getViewers()
        return viewers*.getImageData().findAll { it != null && gui.getProject().getEntry(it) != null }
            .collectEntries { [(gui.getProject().getEntry(it).getID()): it] }
    }

}

/** The images of a project that a job or a file names. */
class Chosen {

    /** One map for each: entry, or image and error. */
    static List<Map> chosen(Object project, List wanted) {
        if (wanted == null) {
            return project.getImageList().collect { [entry: it] }
        }
        return wanted.collect { said ->
            List found = named(project, said)
            return found.size() == 1 ? [entry: found[0]] : [image: said.toString(), error: problem(said, found)]
        }
    }

    /** The entries of one id, or of one name. */
    static List named(Object project, Object said) {
        if (said instanceof Number) {
            return project.getImageList().findAll { it.getID() == said.longValue().toString() }
        }
        return project.getImageList().findAll { it.getImageName() == said } ?:
            project.getImageList().findAll { it.getID() == said }
    }

    static String problem(Object said, List found) {
        if (found) {
            return "${found.size()} images of the project are called '${said}' (entries ${found*.getID().join(', ')}); " +
                'say which by the number of its entry.'
        }
        return "there is no image '${said}' in the project."
    }

    /** Whose objects stand in NAME.geojson: of the program's NNNN_NAME the entry, else all of that name. */
    static List ofFile(Object project, Path file) {
        String stem = file.fileName.toString().replaceFirst('(?i)\\.(geo)?json$', '')
        List byId = project.getImageList().findAll { FileNames.of(it.getID(), it.getImageName()) == stem + '.geojson' }
        return byId ?: project.getImageList().findAll { entry ->
            String name = entry.getImageName()
            String bare = name.replaceFirst('\\.[^.]+$', '')
            return stem in [name, bare, FileNames.safe(name), FileNames.safe(bare)]
        }
    }

}

// What the other scripts call on this one.

@Field Object shared = null

/** See glombridge_shared.groovy. */
int getLevel() {
    return 2
}

/** The dialogs; only where there is a window, because they need more of JavaFX than a command line may have. */
Object getDialogs() {
    Object dialogs = shared.part('glombridge_dialogs.groovy')
    dialogs.gui = Desk.window()
    return dialogs
}

GeoJson getGeoJson() {
    return new GeoJson(shared)
}

Class getFileNames() {
    return FileNames
}

Class getStored() {
    return Stored
}

Class getDesk() {
    return Desk
}

Class getChosen() {
    return Chosen
}

/** The path of the job file, or null: run in QuPath's window. QuPath has split it where it holds a comma. */
String jobOf(Object binding) {
    def args = binding.variables['args']
    return args ? args.join(',') : null
}

/**
 * Runs a job and writes its result file, also when it fails: QuPath's exit code does not tell.
 *
 * @param work is given the job and the project, and gives back what the result says beside format, ok and error
 */
void runJob(String jobFile, Closure work) {
    Path file = Paths.get(jobFile).toAbsolutePath()
    Path result = null
    Map said = [format: 1, ok: false, error: null, images: []]
    try {
        Map job = shared.json.read(file) as Map
        if (!job.result) {
            throw new IllegalArgumentException("The job ${file} names no file for its result ('result').")
        }
        result = file.resolveSibling(job.result as String)
        if (job.format != 1) {
            throw new IllegalArgumentException("The job has format ${job.format}, and this script knows format 1.")
        }
        ['out', 'detections'].each { key ->
            if (job[key]) {
                job[key] = file.resolveSibling(job[key] as String)
            }
        }
        Path project = file.resolveSibling((job.project ?: '') as String)
        if (Files.isDirectory(project)) {
            project = project.resolve('project.qpproj')
        }
        if (!Files.isRegularFile(project)) {
            throw new FileNotFoundException("There is no QuPath project ${project} (the job's 'project').")
        }
        job.jobFile = file
        said += work.call(job, ProjectIO.loadProject(project.toFile(), BufferedImage))
        said.ok = said.images.every { it.ok }
    } catch (Exception | LinkageError | StackOverflowError error) {
        if (result == null) {
            throw error
        }
        said.error = words(error)
    }
    shared.json.write(result, shared.json.GSON.toJson(said))
}

/** Does something for each image; a failure of one does not stop the others. */
List<Map> eachImage(List<Map> chosen, Closure work) {
    return chosen.collect { row ->
        Map said = row.entry == null ? [image: row.image, id: null] : [image: row.entry.getImageName(), id: row.entry.getID() as long]
        said.putAll(row.findAll { key, value -> key == 'from' })
        try {
            if (row.error) {
                throw new IllegalArgumentException(row.error as String)
            }
            return said + [ok: true, error: null] + work.call(row)
        } catch (Exception | LinkageError | StackOverflowError error) {
            return said + [ok: false, error: words(error)]
        }
    }
}

String words(Throwable error) {
    return error.message ?: error.class.simpleName
}
